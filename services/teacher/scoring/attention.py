"""The teacher's attention: over a stream in which responses share the prompt before them, see
`rlad_core.shared_prompts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import CausalBias, causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from rlad_core.attention import VARLEN_DTYPES, fits_varlen, windowed
from rlad_core.forward import refuse_other_attention
from rlad_core.shared_prompts import Layout, Span, attend_behind_prompts
from services.teacher.scoring.strips import Strip, attend_in_strips, strips_of

ATTENTION = "rlad_shared_prompts"
"""Name under which transformers knows `attend`."""


def laid_out(layout: Layout, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a model's forward is to hand on to `attend`, on its device and for its precision."""
    has_kernel = device.type == "cuda" and dtype in VARLEN_DTYPES
    return {
        "layout": layout,
        "strips": [strip.to(device) for strip in strips_of(layout.spans)] if has_kernel else [],
    }


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    strips: Sequence[Strip] = (),
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over a packed stream, in the form transformers calls it. Not differentiable.

    Args:
        query: [1, heads, T, head size]; key, value: [1, key-value heads, T, head size].
        layout: of the `Packed`, passed through the model's forward, see `laid_out`.
        strips: the layout's spans once more, for a GPU's kernel; empty: there is none.
        sliding_window: a token sees so many tokens, itself and those right before it; None: all before it.

    Returns:
        [1, T, heads, head size], and None for the weights.

    Raises:
        NotImplementedError: the model's attention has capped scores or sinks.
    """
    del attention_mask
    refuse_other_attention(module, softcap, s_aux)
    window = None if sliding_window is None or sliding_window >= layout.longest else sliding_window
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    if strips and fits_varlen(query, value):
        return attend_in_strips(q, k, v, strips, scale=scaling, window=window)[None], None
    if query.is_cuda or window or query.shape[-1] != value.shape[-1]:
        return _span_by_span(query, key, value, layout.spans, scaling, window), None
    return attend_behind_prompts(q, k, v, layout, scale=scaling)[None], None


AttentionInterface.register(ATTENTION, attend)


def _span_by_span(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    spans: Sequence[Span],
    scale: float | None,
    window: int | None,
) -> Tensor:
    """The same in a call for each span: where a window cuts, and on GPUs in float32, whose kernels build no
    mask for it.
    """
    out = query.new_empty((*query.shape[:-1], value.shape[-1]))
    for span in spans:
        rows = slice(span.start, span.stop)
        q, k, v = query[:, :, rows], key[:, :, rows], value[:, :, rows]
        mask: Tensor | CausalBias | None = None
        if span.prefix is not None:
            prefix = slice(*span.prefix)
            k = torch.cat([key[:, :, prefix], k], dim=2)
            v = torch.cat([value[:, :, prefix], v], dim=2)
            # Query i sees the prefix and the keys 0..i of its own span.
            mask = causal_lower_right(q.shape[2], k.shape[2])
        if window is not None and k.shape[2] > window:
            mask = windowed(q.shape[2], k.shape[2], window, q.device)
        out[:, :, rows] = scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
        )
    return out.transpose(1, 2)
