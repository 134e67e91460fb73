"""Attention over a stream in which sequences share the prompt before them.

A response's token sees the whole prompt and, causally, its own response. Both parts are computed for all
responses of about one length at once, and put together by their normalisers, which is exact:

    out = (1 - w) * own + w * prompt,   w = sigmoid(lse_prompt - lse_own)
    lse = log(exp(lse_own) + exp(lse_prompt))

with lse the log of the sum of exponentials of a part's scores. No key is copied for a response, no mask is
built, and a prompt's keys are read once for all that follow it. The gradient splits likewise: with the scores
s = q . k * scale, p = exp(s - lse) and the results as a whole,

    ds = p * (do . v - do . out)

holds for any part of the keys by itself, which is how kernels of flash attention go through them block by
block (Dao et al., arXiv 2205.14135, Algorithm 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlad_core.attention import Blocks, Rows, taken

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


def attend_behind_prompts(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, *, scale: float | None
) -> Tensor:
    """Attention of every span to itself and its prefix, on CPUs. Differentiable once.

    Args:
        query: [T, H, D]; ``key`` and ``value`` are [T, H_kv, D], H a multiple of H_kv.
        scale: of the scores; None: 1 / sqrt(D).

    Returns:
        [T, H, D].
    """
    result: Tensor = _Attention.apply(query, key, value, layout, scale)  # type: ignore[no-untyped-call]
    return result


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float | None
    ) -> Tensor:
        own, own_lse = _in_blocks(query, key, value, layout.own.rows, layout.own.rows, scale, causal=True)
        place, rows = layout.own.place, layout.continued
        out, lse = own.index_select(0, place), own_lse.index_select(0, place)
        if layout.prefixes:
            queries = layout.continuing.rows
            before, before_lse = _in_blocks(query, key, value, queries, layout.prefixes, scale, causal=False)
            mine, theirs = place[rows], layout.continuing.place[rows]
            first, second = own_lse[mine], before_lse[theirs]
            share = torch.sigmoid(second - first)[..., None].to(own.dtype)
            out.index_copy_(0, rows, torch.lerp(own[mine], before[theirs], share))
            lse.index_copy_(0, rows, torch.logaddexp(first, second))
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, out, lse = ctx.saved_tensors
        layout: Layout = ctx.layout
        sums = [torch.zeros_like(each, memory_format=torch.contiguous_format) for each in (query, key, value)]
        every = torch.arange(grad.shape[0], device=grad.device)
        parts = [(layout.own, layout.own.rows, every, True)]
        if layout.prefixes:
            parts.append((layout.continuing, layout.prefixes, layout.continued, False))
        for blocks, prefixes, rows, causal in parts:
            for queries, keys, given in zip(
                blocks.rows, prefixes, _laid_out(grad, blocks, rows), strict=True
            ):
                # What autograd calls for `scaled_dot_product_attention`. Padding repeats a row, whose
                # normaliser is finite, and has a gradient of 0.
                found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    given,
                    taken(query, queries),
                    taken(key, keys),
                    taken(value, keys),
                    taken(out, queries),
                    taken(lse[..., None], queries)[..., 0],
                    0.0,
                    causal,
                    scale=ctx.scale,
                )
                for total, each, places in zip(sums, found, (queries, keys, keys), strict=True):
                    total.index_add_(0, places.flatten(), each.transpose(1, 2).flatten(0, 1))
        return sums[0], sums[1], sums[2], None, None


def _laid_out(grad: Tensor, blocks: Blocks, rows: Tensor) -> Iterator[Tensor]:
    """A gradient [T, H, D] in the form of the rectangles, [N, H, L, D] each: of these rows, the others' 0."""
    sizes = [each.numel() for each in blocks.rows]
    whole = grad.new_zeros(sum(sizes), *grad.shape[1:])
    whole.index_copy_(0, blocks.place[rows], grad[rows])
    for part, each in zip(torch.split(whole, sizes), blocks.rows, strict=True):
        yield part.view(*each.shape, *grad.shape[1:]).transpose(1, 2)


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
