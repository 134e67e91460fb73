"""GPUs by name, with the figures of their makers' data sheets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rlad_core.config.engines import Dtype


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        memory: bytes that a driver shows.
        flops: operations a second by the values' type: dense ones of its matrix units in bfloat16; in float32
            those of all others, since nothing here rounds float32 for a matrix unit (TF32).
        bandwidth: bytes a second of its memory.
    """

    name: str
    memory: float
    flops: Mapping[Dtype, float]
    bandwidth: float


# MiB as nvidia-smi shows them; TFLOP/s in bfloat16 and in float32, and TB/s, from the data sheets.
_SHEETS: Final = (
    ("A100-80GB", 81_920, 312, 19.5, 2.04),
    ("H100", 81_559, 989, 67, 3.35),
    ("H200", 143_771, 989, 67, 4.8),
    ("B200", 183_359, 2250, 75, 8.0),
    ("L40S", 46_068, 362, 91.6, 0.864),
    ("RTX-4090", 24_564, 165, 82.6, 1.01),
)

GPUS: Final = {
    name: Gpu(name, mib * 2**20, {"bfloat16": half * 1e12, "float32": full * 1e12}, terabytes * 1e12)
    for name, mib, half, full, terabytes in _SHEETS
}
"""By name, as ``rlad plan --gpu`` has it."""
