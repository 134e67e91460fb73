"""What publishing a policy version costs, against copying its bytes.

    python -m benchmarks.publishing                  # 1 GiB in bfloat16, narrowed from float32 weights
    python -m benchmarks.publishing --gib 0.5 --versions 5

A model of random float32 weights is published as a run with `weights.transfer: object_store` does it, several
times. The measure is a copy of as many bytes into fresh memory, taken in turns with it. Also shown: how much
memory the publishing process grew by at most, beside the image that it writes into, and what the store maps.
"""

import os
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import psutil
import ray
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from rlad_core.language_model.image import tensor_bytes
from services.base.asking import answer_of
from services.learner.whole_weights import WholeWeights
from services.serve.cluster import NAMESPACE
from services.weights.image import Image, OpenImage
from services.weights.policy_store import close_store, policy_store
from services.weights.store import publish

_STORE = "benchmark"
_ANSWER_S = 60.0
_WIDTH = 4096
_LAYER_GIB = 2 * _WIDTH**2 / 2**30


def model_of(gib: float) -> nn.Module:
    """Layers of 16M weights, so many that they are `gib` in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Module()
    for number in range(round(gib / _LAYER_GIB)):
        weight = torch.randn(_WIDTH, _WIDTH, generator=generator)
        model.register_parameter(f"weight_{number}", nn.Parameter(weight))
    return model


def copying(num_bytes: int) -> float:
    """Seconds of a copy into memory that nobody used before."""
    source = torch.ones(num_bytes, dtype=torch.uint8)
    target = Image("copy", num_bytes)
    with OpenImage(target.path, writable=True) as opened:
        started = time.perf_counter()
        opened.bytes[:] = tensor_bytes(source)
        seconds = time.perf_counter() - started
    target.close()
    return seconds


def watched(work: Callable[[], object]) -> tuple[float, int]:
    """Seconds of some work, and by how many bytes of its own this process grew at most."""
    process = psutil.Process()

    def own() -> int:
        memory = process.memory_info()
        return int(memory.rss - memory.shared)

    before, peak, done = own(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, own() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return seconds, peak


def main(
    gib: Annotated[
        float, typer.Option(min=_LAYER_GIB, max=1024, help="Of the version, in bfloat16; whole layers.")
    ] = 1.0,
    versions: Annotated[int, typer.Option(min=1, help="How many are published.")] = 4,
) -> None:
    """Publish versions and copy as many bytes, in turns; medians without the first."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray leaves a token in the home directory
    ray.init(num_cpus=2, include_dashboard=False, namespace=NAMESPACE, object_store_memory=100 * 2**20)
    weights = WholeWeights(model_of(gib), torch.bfloat16, torch.device("cpu"))
    size = sum(spec.num_bytes for spec in weights.specs())
    store = policy_store(_STORE)
    answer = store.__ray_call__.remote(lambda _: os.getpid())
    pid = answer_of(answer, timeout_s=_ANSWER_S, what="the policy store to start")
    rows: list[tuple[float, float, int, int]] = []
    for version in range(versions):
        copied = copying(size)
        published, grown = watched(partial(publish, _STORE, version, weights))
        rows.append((copied, published, grown, psutil.Process(pid).memory_info().rss))
    close_store(_STORE)
    ray.shutdown()
    rows = rows[1:] or rows
    table = Table("", "seconds", "of a copy", title=f"A version of {size / 2**30:.2f} GiB, {len(rows)} times")
    copied = statistics.median(row[0] for row in rows)
    published = statistics.median(row[1] for row in rows)
    table.add_row("copying the bytes", f"{copied:.2f}", "1.00")
    table.add_row("publishing", f"{published:.2f}", f"{published / copied:.2f}")
    console = Console()
    console.print(table)
    console.print(f"the publishing process grew by at most {max(row[2] for row in rows) / size:.2f} images")
    console.print(f"the store's process has {max(row[3] for row in rows) / size:.2f} images mapped")


if __name__ == "__main__":
    typer.run(main)
