"""What a process takes, and what several kinds of process take alike."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from rlad_core.config.engines import Dtype
from rlad_core.sizing.shapes import Shape

GIB: Final = 2**30
RESERVE: Final = 1.5 * GIB
"""What CUDA, NCCL and a fragmented allocator take on each GPU, beside what is counted."""
BYTES: Final[dict[Dtype, int]] = {"float32": 4, "bfloat16": 2}
"""Of a value."""
CHUNK: Final = 1024
"""Tokens whose logits are held at once, see rlad_core.logprobs."""


@dataclass(frozen=True)
class Need:
    """What one process of a role takes on its GPU (on the host, where it has none).

    Attributes:
        role: such as "learner".
        model: its reference.
        gpus: share of a GPU, or how many of them; 0: it runs on CPUs.
        parts: bytes by what takes them.
        field: the setting that makes it smaller.
        written: what an engine's recipe has there.
        ways: what else does, by the part that is largest; where there is nothing, the field is lowered.
        note: what the numbers mean for the run.
        host: bytes of host memory, where it has a GPU.
        passing: parts that are there only while it works.
        sleeps: whether it gives its GPU away while the learner works.
        least: bytes that its KV cache has to hold at least, by what takes them.
    """

    role: str
    model: str
    gpus: float
    parts: dict[str, float]
    field: str
    ways: dict[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    host: dict[str, float] = dataclasses.field(default_factory=dict)
    passing: frozenset[str] = frozenset()
    sleeps: bool = False
    least: dict[str, float] = dataclasses.field(default_factory=dict)
    written: float | None = None

    @property
    def at_rest(self) -> float:
        """Bytes of one GPU while another role works."""
        return sum(size for name, size in self.parts.items() if name not in self.passing)

    @property
    def total(self) -> float:
        """Bytes of one GPU."""
        return sum(self.parts.values())


def kept_per_token(shape: Shape, dtype: Dtype, *, on_gpu: bool = True) -> int:
    """Bytes that one layer keeps of a token for its backward pass (A above).

    On CPUs norms keep one result beside what comes out of them (`rlad_core.norms`).
    """
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    if dtype == "bfloat16":
        widths = (16, 10, 10, 8) if on_gpu else (8, 8, 6, 8)
    else:
        widths = (24, 16, 16, 16) if on_gpu else (16, 16, 12, 16)
    return sum(
        each * width for each, width in zip(widths, (shape.width, queries, keys, shape.mlp), strict=True)
    )


def halved(setting: str, dtype: Dtype, gpus: float) -> str:
    """Advice that comes before others, where values are of 4 bytes on a GPU: half of it.

    Args:
        setting: the section's, such as ``policy``.
    """
    return f"write {setting}.dtype: bfloat16, or " if dtype == "float32" and gpus else ""


def lower(tokens: int, longest: int) -> str:
    """Advice on tokens at a time, which are no fewer than those of the longest sequence."""
    if tokens > longest:
        return f"lower it, down to {longest:,}"
    return "lower policy.max_length and it, or take a GPU with more memory"
