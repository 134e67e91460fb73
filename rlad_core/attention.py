"""Causal attention inside each sequence of a packed stream, in few calls whatever their number.

A call for each sequence costs more than what it computes where sequences are short, and padding all to the
longest costs more than that where lengths differ. So sequences of about one length are laid into a rectangle
(`Blocks`) and computed in one call. Padding stands at the end of a row, where a causal query never looks; its
own results are dropped, so that it takes part in no value and no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

Rows = npt.NDArray[np.int64]

# Kernels compute some 16 queries at a time, and like whole ones.
_MULTIPLE: Final = 16
# Their work grows with the square of a rectangle's length: 0.85 took a third more time than this.
_FILLED: Final = 0.94

VARLEN_DTYPES: Final = (torch.bfloat16, torch.float16)
"""What torch's ``varlen_attn`` computes in, on GPUs."""
_HEAD_MULTIPLE, _LARGEST_HEAD = 8, 256


@dataclass(frozen=True, eq=False)
class Blocks:
    """Sequences of rows of a stream, laid into few rectangles.

    Attributes:
        rows: int64 [N, L] each: the stream's rows of N sequences, the last one repeated up to L.
        members: which sequence each line of each rectangle is.
        place: int64 [T], where each row of the stream stands in the rectangles laid end to end; of no meaning
            for a row that is in no sequence.
    """

    rows: tuple[Tensor, ...]
    members: tuple[tuple[int, ...], ...]
    place: Tensor

    @classmethod
    def of(cls, sequences: Sequence[Rows], total: int, kinds: Sequence[int] | None = None) -> Blocks:
        """Lay out sequences.

        Args:
            sequences: the stream's rows of each.
            total: T, rows of the stream.
            kinds: of each sequence; those of two kinds share no rectangle. None: all are of one.
        """
        place = np.zeros(total, dtype=np.int64)
        rectangles, end = [], 0
        together = list(alike([each.size for each in sequences], kinds))
        for members in together:
            longest = sequences[members[0]].size
            length = longest if len(members) == 1 else _whole(longest)
            rectangle = np.empty((len(members), length), dtype=np.int64)
            for line, member in zip(rectangle, members, strict=True):
                rows = sequences[member]
                line[: rows.size], line[rows.size :] = rows, rows[-1]
                place[rows] = np.arange(end, end + rows.size)
                end += length
            rectangles.append(torch.from_numpy(rectangle))
        return cls(tuple(rectangles), tuple(map(tuple, together)), torch.from_numpy(place))

    @classmethod
    def of_bounds(cls, bounds: Sequence[int]) -> Blocks:
        """Sequences that lie end to end, by their starts and the end of the last."""
        return cls.of([np.arange(start, stop) for start, stop in pairwise(bounds)], bounds[-1])

    def to(self, device: torch.device) -> Blocks:
        """The same on a device."""
        return Blocks(tuple(rows.to(device) for rows in self.rows), self.members, self.place.to(device))


def alike(lengths: Sequence[int], kinds: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Which of these may share a rectangle, longest first: little of it is then padding."""
    kinds = kinds or [0] * len(lengths)
    members: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (kinds[place], -lengths[place])):
        if members and (
            kinds[place] != kinds[members[0]]
            or _whole(lengths[place]) < _FILLED * _whole(lengths[members[0]])
        ):
            yield members
            members = []
        members.append(place)
    if members:
        yield members


def _whole(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def attend(
    query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, *, scale: float | None, window: int | None
) -> Tensor:
    """Causal attention inside each sequence. Differentiable.

    Args:
        query: [T, H, D]; ``key`` and ``value`` are [T, H_kv, D], H a multiple of H_kv.
        blocks: the sequences, on the same device.
        scale: of the scores; None: 1 / sqrt(D).
        window: a token sees so many tokens, itself and those right before it; None: all before it.

    Returns:
        [T, H, D of value].
    """
    grouped = query.shape[1] != key.shape[1]
    results = []
    for rows in blocks.rows:
        length = rows.shape[1]
        seen = windowed(length, length, window, query.device) if window and length > window else None
        result = scaled_dot_product_attention(
            taken(query, rows),
            taken(key, rows),
            taken(value, rows),
            attn_mask=seen,
            is_causal=seen is None,
            scale=scale,
            enable_gqa=grouped,
        )
        results.append(result.transpose(1, 2).flatten(0, 1))
    whole = results[0] if len(results) == 1 else torch.cat(results)
    return whole.index_select(0, blocks.place)


def fits_varlen(query: Tensor, value: Tensor) -> bool:
    """Whether torch's ``varlen_attn`` computes attention of such states, [..., head size], on GPUs."""
    size = query.shape[-1]
    as_large = size == value.shape[-1] <= _LARGEST_HEAD and size % _HEAD_MULTIPLE == 0
    return query.dtype in VARLEN_DTYPES and as_large


def taken(states: Tensor, rows: Tensor) -> Tensor:
    """Rows of a stream [T, H, D] as [N, H, L, D], by their index [N, L]."""
    return states.index_select(0, rows.flatten()).view(*rows.shape, *states.shape[1:]).transpose(1, 2)


def windowed(queries: int, keys: int, window: int, device: torch.device) -> Tensor:
    """Which of the last ``queries`` tokens of a sequence sees which of its ``keys`` tokens.

    Returns:
        bool [queries, keys]: true for the token itself and the ``window`` - 1 before it.
    """
    place = torch.arange(keys, device=device)
    distance = place[keys - queries :, None] - place
    return (distance >= 0) & (distance < window)
