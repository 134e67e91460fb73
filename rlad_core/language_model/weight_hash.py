"""A hash of a model's weights as they are in memory now, cheap enough to take again and again.

Every parameter is summed along each of its axes as integers (its bits, wrapping around in int64), each entry
of those sums times its place. That is one pass over the memory, on the device where the weights are: weights
that are zero, others, or in another order give another hash. It finds faults; it is no signature, which
somebody who chooses weights on purpose could not meet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn

_BITS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PIECE: Final = 2**20
"""Values that are widened to int64 at a time: a GPU may have no room for more, a CPU's caches have none."""


def weight_hash(model: nn.Module) -> str:
    """A hash of all parameters, with their names, shapes and types.

    Returns:
        ``sums:`` and 32 hexadecimal digits.
    """
    whole = hashlib.sha256()
    for sums in weight_sums(sorted(model.named_parameters())).values():
        whole.update(sums.encode())
    return "sums:" + whole.hexdigest()[:32]


@torch.no_grad()
def weight_sums(weights: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """What goes into the hash of each weight, by its name, so that a difference can be traced to a weight."""
    return {
        name: repr((name, tuple(weight.shape), str(weight.dtype), [int(each) for each in _sums(weight)]))
        for name, weight in weights
    }


def _sums(weight: Tensor) -> list[Tensor]:
    """The sums of its columns and of its rows; all axes after the first count as one."""
    if not weight.numel():
        return []
    rows = weight.detach().reshape(weight.shape[0] if weight.ndim else 1, -1)
    width = rows.shape[1]
    at_a_time = max(1, _PIECE // width)
    columns = torch.zeros(width, dtype=torch.int64, device=rows.device)
    by_row = torch.zeros((), dtype=torch.int64, device=rows.device)
    for first in range(0, rows.shape[0], at_a_time):
        piece = rows[first : first + at_a_time].contiguous().view(_BITS[rows.element_size()]).long()
        columns += piece.sum(dim=0)
        by_row += _by_place(piece.sum(dim=1), first)
    return [_by_place(columns), by_row]


def _by_place(sums: Tensor, first: int = 0) -> Tensor:
    return (sums * torch.arange(first + 1, first + 1 + sums.numel(), device=sums.device)).sum()
