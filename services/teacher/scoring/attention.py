"""Attention over a stream in which responses share the prompt before them.

A response's token sees the whole prompt and, causally, its own response. Both parts are computed for all
responses of about one length at once, and put together by their normalisers, which is exact:

    out = (1 - w) * own + w * prompt,   w = sigmoid(lse_prompt - lse_own)

with lse the log of the sum of exponentials of a part's scores. No key is copied for a response, no mask is
built, and a prompt's keys are read once for all that follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.bias import CausalBias, causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from rlad_core.attention import Blocks, Rows, taken, windowed
from rlad_core.forward import refuse_other_attention

ATTENTION = "rlad_shared_prompts"
"""Name under which transformers knows `attend`."""

Part = tuple[Tensor, Tensor]
"""Results [n, H, D] of some tokens and the log-normalisers [n, H] of their scores."""


@dataclass(frozen=True)
class Span:
    """Tokens start..stop-1 of the stream: causal among themselves, and open to all of the prefix.

    Args:
        prefix: where the prompt that they continue stands, None for tokens that continue nothing.
    """

    start: int
    stop: int
    prefix: tuple[int, int] | None = None

    @property
    def length(self) -> int:
        """Tokens of the sequence that ends with it."""
        start, stop = self.prefix or (0, 0)
        return self.stop - self.start + stop - start


@dataclass(frozen=True, eq=False)
class Layout:
    """How a stream's attention is computed.

    Attributes:
        spans: they cover the stream; those of one prefix are next to each other.
        longest: tokens of the longest sequence, its prefix included.
        own: the spans, each by itself.
        continuing: the same for all that continue one prefix, taken together.
        prefixes: int64 [N, P], the prefix of each line of the rectangle of `continuing` with the same place.
        continued: int64, rows of the stream that continue a prefix.
    """

    spans: tuple[Span, ...]
    longest: int
    own: Blocks
    continuing: Blocks
    prefixes: tuple[Tensor, ...]
    continued: Tensor

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Layout:
        """Lay out a stream of these spans."""
        total = spans[-1].stop
        behind: dict[tuple[int, int], list[Rows]] = {}
        for span in spans:
            if span.prefix is not None:
                behind.setdefault(span.prefix, []).append(np.arange(span.start, span.stop))
        prefixes = [np.arange(*prefix) for prefix in behind]
        rows = [np.concatenate(each) for each in behind.values()]
        # Prefixes of one length side by side need no mask; what continues them may be padded.
        continuing = Blocks.of(rows, total, kinds=[prefix.size for prefix in prefixes])
        return cls(
            spans=tuple(spans),
            longest=max(span.length for span in spans),
            own=Blocks.of([np.arange(span.start, span.stop) for span in spans], total),
            continuing=continuing,
            prefixes=tuple(
                torch.from_numpy(np.stack([prefixes[member] for member in members]))
                for members in continuing.members
            ),
            continued=torch.from_numpy(np.concatenate([np.empty(0, np.int64), *rows])),
        )


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over a packed stream, in the form transformers calls it. Not differentiable.

    Args:
        query: [1, heads, T, head size]; key, value: [1, key-value heads, T, head size].
        layout: of the `Packed`, passed through the model's forward.
        sliding_window: a token sees so many tokens, itself and those right before it; None: all before it.

    Returns:
        [1, T, heads, head size], and None for the weights.

    Raises:
        NotImplementedError: the model's attention has capped scores or sinks.
    """
    del attention_mask
    refuse_other_attention(module, softcap, s_aux)
    window = None if sliding_window is None or sliding_window >= layout.longest else sliding_window
    if query.is_cuda or window or query.shape[-1] != value.shape[-1]:
        return _span_by_span(query, key, value, layout.spans, scaling, window), None
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    own, own_lse = _in_blocks(q, k, v, layout.own.rows, layout.own.rows, scaling, causal=True)
    place = layout.own.place
    out = own.index_select(0, place)
    if not layout.prefixes:
        return out[None], None
    before, before_lse = _in_blocks(q, k, v, layout.continuing.rows, layout.prefixes, scaling, causal=False)
    rows = layout.continued
    mine, theirs = place[rows], layout.continuing.place[rows]
    share = torch.sigmoid(before_lse[theirs] - own_lse[mine])[..., None].to(own.dtype)
    out.index_copy_(0, rows, torch.lerp(own[mine], before[theirs], share))
    return out[None], None


AttentionInterface.register(ATTENTION, attend)


def _in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    scale: float | None,
    *,
    causal: bool,
) -> Part:
    """Attention of each rectangle of queries [N, Q] to the one of keys [N, K] in the same place."""
    results, normalisers = [], []
    for q, k in zip(queries, keys, strict=True):
        # What `scaled_dot_product_attention` calls on CPUs; it does not hand on the normaliser.
        result, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            taken(query, q), taken(key, k), taken(value, k), 0.0, causal, scale=scale
        )
        results.append(result.transpose(1, 2).flatten(0, 1))
        normalisers.append(lse.transpose(1, 2).flatten(0, 1))
    return torch.cat(results), torch.cat(normalisers)


def _span_by_span(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    spans: Sequence[Span],
    scale: float | None,
    window: int | None,
) -> Tensor:
    """The same in a call for each span: on GPUs, which build no mask for it, and where a window cuts."""
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
