"""Group-relative advantages: a response is judged against the others to the same prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_EQUAL = 1e-6
"""Rewards that differ by at most this count as equal: rounding of a reward's parts would else be blown up to
advantages of +-1."""


@dataclass(frozen=True, eq=False)
class GroupAdvantages:
    """Advantages of N responses.

    Attributes:
        advantages: float32 [N], zero in uninformative groups.
        informative: bool [N], whether the response's group has rewards that differ. All responses of a
            group share the value, so ``table.filter(informative)`` drops whole groups.
    """

    advantages: npt.NDArray[np.float32]
    informative: npt.NDArray[np.bool_]


def group_relative_advantages(
    rewards: npt.ArrayLike,
    group_ids: Sequence[str] | npt.NDArray[np.generic],
    *,
    scale: bool = True,
) -> GroupAdvantages:
    """``(reward - mean) / std`` inside each group, with the population standard deviation.

    Source: DeepSeekMath (GRPO), arXiv 2402.03300, section 4.1; RLAD, arXiv 2602.22495.

    A group whose rewards are all equal (whatever their value: 0 and 1 aren't special) teaches nothing. It is
    marked uninformative rather than divided by almost zero, so the formula needs no constant in its
    denominator.

    Args:
        rewards: [N] numbers, in any order of groups.
        group_ids: [N] the group of each response.
        scale: divide by the standard deviation; without it (Dr. GRPO, arXiv 2503.20783) the advantage is the
            reward minus the group's mean.

    Raises:
        ValueError: lengths differ, or a reward isn't finite.
    """
    values = np.asarray(rewards, dtype=np.float64)
    groups = np.asarray(group_ids)
    if values.ndim != 1 or values.shape != groups.shape:
        raise ValueError(
            f"rewards has shape {values.shape} and group_ids {groups.shape}; give one of each per response"
        )
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"reward {row} (group {groups[row]}) is {values[row]}; rewards must be finite")
    if values.size == 0:
        return GroupAdvantages(np.zeros(0, np.float32), np.zeros(0, np.bool_))

    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    highest = np.full(sizes.size, -np.inf)
    lowest = np.full(sizes.size, np.inf)
    np.maximum.at(highest, group, values)
    np.minimum.at(lowest, group, values)
    informative = (highest - lowest > _EQUAL)[group]

    centred = values - (np.bincount(group, values) / sizes)[group]
    if not scale:
        centred = np.where(informative, centred, 0.0)
        return GroupAdvantages(centred.astype(np.float32), informative)
    std = np.sqrt(np.bincount(group, centred**2) / sizes)[group]
    advantages = np.divide(centred, std, out=np.zeros_like(values), where=informative)
    return GroupAdvantages(advantages.astype(np.float32), informative)
