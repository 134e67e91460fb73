"""GPUs by name, with the figures of their makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        memory: bytes that a driver shows.
        flops: dense bfloat16 operations a second of its matrix units.
        bandwidth: bytes a second of its memory.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float


# MiB as nvidia-smi shows them; TFLOP/s and TB/s from the data sheets.
_SHEETS: Final = (
    ("A100-80GB", 81_920, 312, 2.04),
    ("H100", 81_559, 989, 3.35),
    ("H200", 143_771, 989, 4.8),
    ("B200", 183_359, 2250, 8.0),
    ("L40S", 46_068, 362, 0.864),
    ("RTX-4090", 24_564, 165, 1.01),
)

GPUS: Final = {
    name: Gpu(name, mib * 2**20, teraflops * 1e12, terabytes * 1e12)
    for name, mib, teraflops, terabytes in _SHEETS
}
"""By name, as ``rlad plan --gpu`` has it."""
