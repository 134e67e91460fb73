"""Attention of spans behind shared prompts on GPUs: few calls of a kernel for sequences of any lengths.

The kernel reads a sequence's keys from rows that lie side by side, so those of a prompt are copied for each
response behind it. A call's copies are bounded, since a thousand short responses behind one long prompt would
fill the device with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from rlad_core.shared_prompts import Span

_COPIES = 4
"""Rows of keys in a call, in rows of the whole stream: a group's prompts seldom need more."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Spans next to each other whose attention is one call.

    Attributes:
        rows: of the stream, the spans' own.
        seen: int64 [K], the rows that each span sees, prefix first, one span after the other.
        own_bounds, seen_bounds: int32 [N + 1], where each of the N spans begins and the last one ends, in
            ``rows`` and in ``seen``.
        longest, longest_seen: rows of the longest span, alone and with its prefix.
    """

    rows: slice
    seen: Tensor
    own_bounds: Tensor
    seen_bounds: Tensor
    longest: int
    longest_seen: int

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Strip:
        """One for all of these."""
        own = [span.stop - span.start for span in spans]
        seen = [np.arange(start, stop) for span in spans for start, stop in _parts(span)]
        together = [span.length for span in spans]
        return cls(
            slice(spans[0].start, spans[-1].stop),
            torch.from_numpy(np.concatenate(seen)),
            torch.tensor([0, *accumulate(own)], dtype=torch.int32),
            torch.tensor([0, *accumulate(together)], dtype=torch.int32),
            max(own),
            max(together),
        )

    def to(self, device: torch.device) -> Strip:
        """The same on a device."""
        return replace(
            self,
            seen=self.seen.to(device),
            own_bounds=self.own_bounds.to(device),
            seen_bounds=self.seen_bounds.to(device),
        )


def strips_of(spans: Sequence[Span], copies: int = _COPIES) -> Iterator[Strip]:
    """Lay a stream's spans into few strips.

    Args:
        copies: a strip sees at most this many times the stream's rows, unless one span alone sees more.
    """
    most = copies * (spans[-1].stop - spans[0].start)
    together, rows = list[Span](), 0
    for span in spans:
        if together and rows + span.length > most:
            yield Strip.of(together)
            together, rows = [], 0
        together.append(span)
        rows += span.length
    yield Strip.of(together)


def attend_in_strips(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    laid: Sequence[Strip],
    *,
    scale: float | None,
    window: int | None,
) -> Tensor:
    """Attention of every span to its prefix and, causally, to itself.

    Args:
        query: [T, H, D]; ``key`` and ``value`` are [T, H_kv, D], H a multiple of H_kv.
        laid: the stream's strips, on the same device.
        scale: of the scores; None: 1 / sqrt(D).
        window: a token sees so many tokens, itself and those right before it; None: all before it.

    Returns:
        [T, H, D].
    """
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    for strip in laid:
        # Of a span's n rows and the m it sees the kernel aligns the last ones: row i sees up to m - n + i.
        result = varlen_attn(
            query[strip.rows],
            key.index_select(0, strip.seen),
            value.index_select(0, strip.seen),
            strip.own_bounds,
            strip.seen_bounds,
            strip.longest,
            strip.longest_seen,
            scale=scale,
            window_size=(-1 if window is None else window - 1, 0),
            enable_gqa=True,
        )
        assert isinstance(result, Tensor)  # a pair only where the log-normaliser is asked for
        out[strip.rows] = result
    return out


def _parts(span: Span) -> Iterator[tuple[int, int]]:
    if span.prefix is not None:
        yield span.prefix
    yield span.start, span.stop
