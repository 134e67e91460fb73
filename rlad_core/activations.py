"""Which activations a backward pass finds kept, and which it computes again.

Of each token and layer a forward pass keeps what its backward needs: 70 KiB for Qwen3-0.6B in bfloat16, which
is 123 GiB for 65,536 tokens of its 28 layers. Computing a layer again from its input keeps 2 KiB instead and
costs one more forward pass, a third of a step's arithmetic (Chen et al., arXiv 1604.06174).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.nn.attention import varlen  # noqa: F401 - registers a packed stream's operator
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

from rlad_core.large import Recompute, recomputed

_aten = torch.ops.aten
# What is dear to compute and small to keep. Norms, activations and rotations are the other way round.
_KEPT = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.torch_attn._varlen_attn.default,
}


def recompute_activations(model: PreTrainedModel, how: Recompute) -> Recompute:
    """Have the model's layers compute their activations again in the backward pass.

    Before ``fully_shard``: a layer's parameters are then gathered for its second forward pass too.

    Args:
        model: a causal LM whose layers are transformers' ``GradientCheckpointingLayer``.
        how: ``full`` keeps each layer's input alone, ``selective`` also products of matrices and attention,
            ``off`` keeps everything, ``auto`` chooses between full and off by the model's size.

    Returns:
        What ``auto`` came to, else ``how``.

    Raises:
        ValueError: the model cannot.
    """
    how = recomputed(how, sum(parameter.numel() for parameter in model.parameters()))
    if how == "off":
        return how
    if not model.supports_gradient_checkpointing:
        raise ValueError(
            f"{type(model).__name__} cannot compute its activations again; "
            "set learner.activation_checkpointing to off"
        )
    settings: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        settings["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
    return how


def _policy(context: Any, operator: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
