"""How long a small request waits while another caller streams large ones, over REST.

    python -m benchmarks.scoring_latency --model rlad:kk-teacher
    python -m benchmarks.scoring_latency --group 256

One caller sends requests of 65,536 tokens, two at a time, without a pause; another one sequence of 256 tokens
after another. With ``--group`` sequences of the large requests share prompts, with 256 all of a request one.
Without tokens a caller is an address, so the service is started with a token for each. Printed are the
percentiles of the small requests beside the time of one batch, which is the engine's time for
``max_tokens_per_batch`` tokens with nobody else there.
"""

import asyncio
import gc
import os
import threading
import time
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from benchmarks.options import Model
from benchmarks.scoring import make_work
from rlad_core.client.teacher import TeacherClient
from rlad_core.config import resolve_model
from services.serve.cluster import embedded_ray
from services.serve.deployment import deployed
from services.serve.fair import ASKER, Asker
from services.teacher import service as teacher
from services.teacher.scoring.batcher import Batcher
from services.teacher.scoring.engines import load_engine
from services.teacher.scoring.interface import TokenPair
from services.teacher.scoring.tables import to_pairs
from services.teacher.settings import TeacherArgs

Pairs = list[TokenPair]

_START_LIMIT_S = 300.0
_SEQUENCES = 256
"""Of a large request."""


def asked_again_and_again(url: str, token: str, table: pa.Table, stop: threading.Event) -> None:
    """The caller who wants much."""
    with TeacherClient(url, token=token, call_timeout_s=600) as client:
        while not stop.is_set():
            client.score(table)


def timed(client: TeacherClient, table: pa.Table, times: int) -> np.ndarray:
    """Seconds of each of so many requests, one after another."""
    seconds = []
    for _ in range(times):
        clock = time.perf_counter()
        client.score(table)
        seconds.append(time.perf_counter() - clock)
    return np.array(seconds)


def main(
    model: Model = "rlad:kk-teacher",
    requests: Annotated[int, typer.Option(min=1, help="Small requests that are timed.")] = 300,
    in_process: Annotated[bool, typer.Option("--in-process", help="Engine and batcher, no service.")] = False,
    tokens_per_batch: Annotated[int, typer.Option(min=256)] = 8192,
    group: Annotated[
        int, typer.Option(min=1, max=_SEQUENCES, help="Sequences of a large request with one prompt.")
    ] = 1,
) -> None:
    """Measure and print one line."""
    args = TeacherArgs(
        model=model, threads=1, max_model_len=256, max_tokens_per_batch=tokens_per_batch, num_cpus=1
    )
    large, one_batch, small = (
        make_work(model, sequences, 64, 192, sharing, args, 1).table
        for sequences, sharing in ((_SEQUENCES, group), (tokens_per_batch // 256, 1), (1, 1))
    )
    # What was imported here stays; a full collection of it would hold up a small request by its own time.
    gc.collect()
    gc.freeze()
    if in_process:
        much, full, little = (to_pairs(table).pairs for table in (large, one_batch, small))
        report(tokens_per_batch, *asyncio.run(beside_in_process(args, much, full, little, requests)))
        return
    os.environ["RLAD_API_TOKENS"] = "much,little"
    with (
        embedded_ray(num_cpus=4),
        deployed(
            {"teacher": teacher.build(args)},
            timeout_s=_START_LIMIT_S, setting="the benchmark's limit", take_down=False,
        ) as root,
        TeacherClient(f"{root}/teacher", token="little") as client,
    ):  # fmt: skip
        url = f"{root}/teacher"
        timed(client, one_batch, 2)
        whole = timed(client, one_batch, 7)
        alone = timed(client, small, 30)
        stop = threading.Event()
        streams = [
            threading.Thread(target=asked_again_and_again, args=(url, "much", large, stop)) for _ in range(2)
        ]
        for stream in streams:
            stream.start()
        timed(client, small, 5)
        beside = timed(client, small, requests)
        stop.set()
        for stream in streams:
            stream.join()
    report(tokens_per_batch, whole, alone, beside)


async def beside_in_process(
    args: TeacherArgs, large: Pairs, one_batch: Pairs, small: Pairs, requests: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds of one batch, of a small request alone, and of one beside the stream."""
    engine = load_engine(args, resolve_model(args.model))
    batcher = Batcher(engine, args.max_tokens_per_batch // engine.passes_per_batch)

    async def asked(caller: str, pairs: Pairs) -> None:
        ASKER.set(Asker(caller))
        await batcher.score(pairs)

    async def timed_here(pairs: Pairs, times: int) -> np.ndarray:
        seconds = []
        for _ in range(times):
            clock = time.perf_counter()
            await asyncio.create_task(asked("little", pairs))
            seconds.append(time.perf_counter() - clock)
        return np.array(seconds)

    async def stream() -> None:
        while True:
            await asyncio.create_task(asked("much", large))

    await timed_here(one_batch, 2)
    whole, alone = await timed_here(one_batch, 7), await timed_here(small, 30)
    streams = [asyncio.create_task(stream()) for _ in range(2)]
    await timed_here(small, 5)
    beside = await timed_here(small, requests)
    for each in streams:
        each.cancel()
    await batcher.close()
    engine.shutdown()
    return whole, alone, beside


def report(tokens_per_batch: int, whole: np.ndarray, alone: np.ndarray, beside: np.ndarray) -> None:
    """Print what was measured."""
    batch_s = float(np.median(whole))
    low, middle, high = np.percentile(beside, [50, 90, 99])
    print(
        f"one batch of {tokens_per_batch} tokens {batch_s:.3f} s; a sequence alone {np.median(alone):.3f} s; "
        f"beside the stream p50 {low:.3f}, p90 {middle:.3f}, p99 {high:.3f} s, "
        f"which is {high / batch_s:.2f} of a batch"
    )


if __name__ == "__main__":
    typer.run(main)
