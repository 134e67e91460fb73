"""What a token brings with what comes after it, from which the learner makes an advantage of each token.

    rewards [T] ---> returns [T] ---> token advantages [T]
    an objective     here, each       less the group's mean, divided by its spread: over all ranks and
                     response         mini-batches, so by the learner (services/learner/group_returns.py)

torch is imported where it is used, so that a recipe can be checked without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class TokenReturns:
    """Of the response tokens of one micro-batch, in its order.

    Attributes:
        values: [T], constant.
        counts: bool [T], those of which a group's mean and spread are taken; the others get no advantage.
    """

    values: Tensor
    counts: Tensor


def with_mean_of_later(rewards: Tensor, is_last: Tensor, counted: Tensor) -> Tensor:
    """``R_t = r_t + mean of r_j over the later tokens j of its response``, the last one's its own reward.

    The mean in the place of the sum favours no length. Source: TOP-D, arXiv 2607.04751, Eq. 8.

    Args:
        rewards: [T], the tokens of whole responses one after another.
        is_last: bool [T], the last token of its response.
        counted: bool [T], those with a reward; the others are no part of any mean.

    Returns:
        float64 [T], since it is made of sums over the micro-batch; means nothing where not counted.
    """
    kept = rewards.double().masked_fill(~counted, 0.0)
    response = is_last.cumsum(0) - is_last.long()
    ends = is_last.nonzero().flatten()
    sums, numbers = kept.cumsum(0), counted.cumsum(0)
    later, left = sums[ends][response] - sums, numbers[ends][response] - numbers
    return kept + later / left.clamp(min=1)
