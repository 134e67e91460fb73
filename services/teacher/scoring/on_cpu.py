"""What makes a forward pass on CPUs shorter: between products of matrices it waits for memory."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.mistral.modeling_mistral import MistralMLP
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

_GATED = (LlamaMLP, MistralMLP, Qwen2MLP, Qwen3MLP)
# Parameters of glibc's mallopt (malloc.h), and what they are set to.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _OF_ITS_OWN_BYTES = 512 * 2**20, 32 * 2**20


def keep_freed_memory() -> bool:
    """Have this process keep what a pass frees, up to 512 MiB, for the next one.

    By itself glibc hands the end of its heap back to the kernel as soon as it is free, which gives it out
    again page by page, each one cleared first: a tenth of a pass of a small model (docs/performance.md).

    Returns:
        Whether this C library does so.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is None:
        return False
    return bool(adjust(_TRIM_THRESHOLD, _KEPT_BYTES) and adjust(_MMAP_THRESHOLD, _OF_ITS_OWN_BYTES))


def lean_mlps(model: nn.Module) -> int:
    """Have a model's gated MLPs computed in place, ``down(silu(gate(x)) * up(x))`` with one activation less
    written; the same numbers to the bit. Not differentiable. Those of other families stay as they are.

    Returns:
        How many.
    """
    found = [
        module
        for module in model.modules()
        if type(module) in _GATED and isinstance(module.act_fn, nn.SiLU | SiLUActivation)
    ]
    for module in found:
        module.forward = partial(_gated, module)
    return len(found)


def _gated(mlp: Any, x: Tensor) -> Tensor:
    gate = silu(mlp.gate_proj(x), inplace=True)
    result: Tensor = mlp.down_proj(gate.mul_(mlp.up_proj(x)))
    return result
