"""A hash of a model's weights as they are in memory now, cheap enough to take again and again.

Every parameter is summed along each of its axes as integers (its bits, wrapping around in int64), each entry
of those sums times its place. That is one pass over the memory for each axis and needs no copy of a weight on
the host: weights that are zero, others, or in another order give another hash. It finds faults; it is no
signature, which somebody who chooses weights on purpose could not meet.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def weight_hash(model: nn.Module) -> str:
    """Of all parameters by name, shape and type.

    Returns:
        ``sums:`` and 32 hexadecimal digits.
    """
    whole = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        sums = [int(each) for each in _sums(weight.detach())]
        whole.update(repr((name, tuple(weight.shape), str(weight.dtype), sums)).encode())
    return "sums:" + whole.hexdigest()[:32]


def _sums(weight: Tensor) -> list[Tensor]:
    if not weight.numel():
        return []
    bits = weight.contiguous().view(_BITS[weight.element_size()])
    flat = bits.reshape(bits.shape[0], -1) if bits.ndim else bits.reshape(1, 1)
    return [_by_place(flat.sum(dim=axis, dtype=torch.int64)) for axis in (0, 1)]


def _by_place(sums: Tensor) -> Tensor:
    return (sums * torch.arange(1, sums.numel() + 1, device=sums.device)).sum()
