"""Returns of tokens against those of their group, whose rows may be on several ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rlad_core.objectives import Statistic
from rlad_core.objectives.returns import TokenReturns
from services.learner.statistics import Statistics, add, over_ranks

_NO_SPREAD = 1e-6
"""A group whose returns are spread by no more says nothing: rounding alone would make advantages of 1."""


def of_rows(rows: Sequence[int], lengths: Sequence[int], returns: TokenReturns) -> dict[int, TokenReturns]:
    """Each row's own, in host memory.

    Args:
        rows: of a micro-batch, in its order.
        lengths: their response tokens.
        returns: of the micro-batch.
    """
    values, counts = (each.cpu().split([*lengths]) for each in (returns.values.double(), returns.counts))
    return {row: TokenReturns(*each) for row, *each in zip(rows, values, counts, strict=True)}


def group_advantages(returns: Mapping[int, TokenReturns], groups: Sequence[str]) -> dict[int, Tensor]:
    """``(R - mean) / standard deviation`` over all tokens of the group that count. A collective call.

    Args:
        returns: of this rank's rows.
        groups: the name of each row's, the same on all ranks, by the rows' numbers.

    Returns:
        Of each row, float32; 0 where a token does not count, and in a group without spread. The standard
        deviation is the population's.
    """
    means = _means(returns, groups)
    centred = {
        row: TokenReturns(each.values - means.get(groups[row], 0.0), each.counts)
        for row, each in returns.items()
    }
    squares = {row: TokenReturns(each.values.square(), each.counts) for row, each in centred.items()}
    spreads = {group: math.sqrt(mean) for group, mean in _means(squares, groups).items()}
    return {row: _advantages(each, spreads.get(groups[row], 0.0)) for row, each in centred.items()}


def _means(values: Mapping[int, TokenReturns], groups: Sequence[str]) -> dict[str, float]:
    """Of the tokens that count, by group, over all ranks; without groups that have none."""
    mine: Statistics = {}
    for row, each in values.items():
        add(mine, {groups[row]: Statistic.of(each.values, each.counts)})
    return {group: found.mean for group, found in over_ranks(mine).items()}


def _advantages(centred: TokenReturns, spread: float) -> Tensor:
    # A spread that is no number divides too: it ends the run at its gradient's norm.
    values = torch.zeros_like(centred.values) if spread <= _NO_SPREAD else centred.values / spread
    return values.masked_fill(~centred.counts, 0.0).float()
