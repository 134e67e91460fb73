"""Time and memory of log-probs with gradients: chunk by chunk, against whole logits in float32.

    python -m benchmarks.logprobs --device cuda --dtype bfloat16          # 32,768 tokens x 151,936 entries
    python -m benchmarks.logprobs --tokens 2048 --vocabulary 32768

The kernel of ``learner.logprobs: fused`` is measured where it runs: in 16 bits on a GPU, with its library.
"""

import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.options import device as a_device
from rlad_core.exact_normaliser import ExactNormaliser, HeadWeights
from rlad_core.fused_logprobs import can_fuse, fused_logprobs, kernel
from rlad_core.logprobs import token_logprobs
from rlad_core.objectives.anchor import log_normaliser
from rlad_core.objectives.rest import with_rest

TOP_K = 64
"""What a teacher tells for an anchor that is normalised."""


def whole_logits(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """As one writes it first."""
    logits = (hidden @ head.t()).float()
    return torch.log_softmax(logits, dim=-1).gather(1, targets[:, None])[:, 0]


def not_fused_because(hidden: Tensor, targets: Tensor) -> str | None:
    """Why the kernel of ``learner.logprobs: fused`` is not measured; None: it is."""
    if not can_fuse(hidden, targets, None):
        return "it computes in 16 bits on a GPU. Write --device cuda --dtype bfloat16"
    try:
        kernel()
    except ModuleNotFoundError as error:
        return str(error)
    return None


def lacks_memory(error: RuntimeError) -> bool:
    """Whether an allocator raised it; that of CPUs has no class of its own for it."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def main(
    tokens: Annotated[int, typer.Option(min=1)] = 32_768,
    width: Annotated[int, typer.Option(min=1)] = 1024,
    vocabulary: Annotated[int, typer.Option(min=1)] = 151_936,
    device: Annotated[str, typer.Option(callback=a_device)] = "cpu",
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option()] = "float32",
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    teacher_width: Annotated[
        list[int] | None, typer.Option(min=1, help="Of teachers whose states give log Z.")
    ] = None,
) -> None:
    """Time forward and backward of each way, and print a table."""
    on_gpu = torch.device(device).type == "cuda"
    torch.manual_seed(0)
    hidden, head = (
        (torch.randn(rows, width, device=device) / width**0.5 * scale).to(getattr(torch, dtype))
        for rows, scale in ((tokens, width**0.5), (vocabulary, 1))
    )
    hidden, head = hidden.requires_grad_(), head.requires_grad_()
    targets = torch.randint(vocabulary, (tokens,), device=device)
    likely = torch.randint(vocabulary, (tokens, 1 + TOP_K), device=device)
    teacher = torch.randn(tokens, TOP_K, device=device).log_softmax(1) - 0.01

    def normalised() -> Tensor:
        found = token_logprobs(hidden, head, likely, rest_of=likely[:, 1:])[0]
        log_normaliser(found[:, 1:].detach(), with_rest(teacher, teacher.amin(dim=1)), 0.5)
        return found[:, 0]

    def exact(size: int) -> Callable[[], Tensor]:
        @cache  # made by the turn that warms up, where there may be no room for it
        def teacher_of() -> tuple[Tensor, HeadWeights]:
            states = torch.randn(tokens, size, device=device).to(hidden.dtype)
            weight = (torch.randn(vocabulary, size, device=device) / size**0.5).to(hidden.dtype)
            return states, HeadWeights(weight, None, 1.0, vocabulary)

        def computed() -> Tensor:
            beside = ExactNormaliser(*teacher_of(), 0.5)
            found = token_logprobs(hidden, head, targets, beside=beside)[0]
            assert beside.log_z.shape == found.shape
            return found

        return computed

    ways = {
        f"chunks of {size}{' and entropy' if entropy else ''}": (
            lambda size=size, entropy=entropy: token_logprobs(
                hidden, head, targets, chunk_size=size, with_entropy=entropy
            )[0]
        )
        for size, entropy in ((1024, False), (1024, True), (4096, False))
    } | {
        f"chunks of 1024, and log Z of {TOP_K} tokens": normalised,
        **{
            f"chunks of 1024, and exact log Z, teacher {size:,} wide": exact(size)
            for size in teacher_width or (width, 4 * width)
        },
        "whole logits": lambda: whole_logits(hidden, head, targets),
    }
    if (why_not := not_fused_because(hidden, targets)) is None:
        ways["learner.logprobs: fused"] = lambda: fused_logprobs(hidden, head, targets)
    shown = Table("way", "ms", "TFLOP/s", "GiB", title=f"{tokens:,} tokens x {vocabulary:,} entries, {dtype}")
    for way, logprobs in ways.items():
        seconds, peak = [], 0
        try:
            for turn in range(repeats + 1):
                hidden.grad = head.grad = None
                if on_gpu:
                    torch.cuda.synchronize()
                    torch.cuda.reset_peak_memory_stats()
                held, clock = torch.cuda.memory_allocated() if on_gpu else 0, time.perf_counter()
                logprobs().sum().backward()  # type: ignore[no-untyped-call]
                if on_gpu:
                    torch.cuda.synchronize()
                    peak = torch.cuda.max_memory_allocated() - held
                if turn:
                    seconds.append(time.perf_counter() - clock)
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            shown.add_row(way, "-", "-", "out of memory")
            continue
        took = statistics.median(seconds)
        # Three products: logits, and the gradients of hidden states and head.
        rate = 6 * tokens * width * vocabulary / took / 1e12
        shown.add_row(way, f"{took * 1e3:,.1f}", f"{rate:.2f}", f"{peak / 2**30:.1f}" if on_gpu else "-")
    name = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} CPU threads"
    console = Console()
    console.print(f"{name}, torch {torch.__version__}")
    console.print(shown)
    if why_not is not None:
        console.print(f"learner.logprobs: fused is not measured: {why_not}", markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
