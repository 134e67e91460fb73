"""RMSNorm in few passes over memory, where nothing fuses what transformers writes.

Between products of matrices a small model on CPUs waits for memory. transformers' RMSNorm reads or writes a
layer's activations some six times forward, and its automatic gradient about twice as often. Here they are
three and five (docs/performance.md has the times):

    r = 1 / sqrt(mean(x^2) + eps)      n = x * r      y = w * n
    dx = r * (g - n * mean(g * n)) with g = w * dy         dw = sum(n * dy)

Source: Zhang and Sennrich, arXiv 1910.07467. The sums are float32 also for half-precision inputs, as in
transformers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

_SAME = (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm)


def lean_norms(model: nn.Module) -> int:
    """Have a model's RMSNorms computed by `rms_norm`; those of other families stay as they are.

    Returns:
        How many.
    """
    found = [module for module in model.modules() if type(module) in _SAME]
    for module in found:
        module.forward = partial(_forward, module)
    return len(found)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``weight * x / sqrt(mean(x^2) + eps)`` over the last dimension, differentiable once.

    Args:
        x: [..., D].
        weight: [D].
        eps: added to the mean of the squares.
    """
    return _RMSNorm.apply(x, weight, eps)  # type: ignore[no-any-return, no-untyped-call]


def _forward(module: Any, hidden_states: Tensor) -> Tensor:
    return rms_norm(hidden_states, module.weight, module.variance_epsilon)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        sums = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=sums)
        scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = (x * scale).to(x.dtype)
        ctx.save_for_backward(normed, scale, weight)
        scaled: Tensor = normed * weight
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        normed, scale, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[1]:
            products = (grad * normed).flatten(0, -2)
            grad_weight = products.sum(dim=0, dtype=scale.dtype).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            inner = (grad * weight).to(scale.dtype)
            mean = torch.linalg.vecdot(inner, normed.to(scale.dtype)).div_(normed.shape[-1])
            grad_x = inner.addcmul_(normed, mean.unsqueeze(-1), value=-1).mul_(scale).to(grad.dtype)
        return grad_x, grad_weight, None
