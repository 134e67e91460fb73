"""What an objective makes of the groups of a step: which of them it learns from, and their advantages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rlad_core.advantage import group_relative_advantages

if TYPE_CHECKING:
    from rlad_core.objectives import Objective


@dataclass(frozen=True)
class GroupRule:
    """The rule of a step under one objective.

    Attributes:
        scales: a group's advantages are divided by the spread of its rewards.
        drops: groups whose rewards are all equal are left out.
        keeps_failed: but for those without a right response.
    """

    scales: bool
    drops: bool
    keeps_failed: bool

    @classmethod
    def of(cls, objective: Objective, *, drop_uninformative: bool) -> GroupRule:
        """That of an objective; `drop_uninformative` is the recipe's."""
        drops = objective.uses_group_advantage and drop_uninformative
        return cls(objective.scales_advantage, drops, drops and objective.learns_from_failed_groups)

    def advantages(self, rewards: npt.ArrayLike, groups: Sequence[str]) -> npt.NDArray[np.float32]:
        """Of each response, [N], see `group_relative_advantages`."""
        return group_relative_advantages(rewards, groups, scale=self.scales).advantages

    def taught(
        self, rewards: npt.ArrayLike, correct: npt.ArrayLike, groups: Sequence[str]
    ) -> npt.NDArray[np.bool_]:
        """Which responses are of a group that is learned from: bool [N].

        Args:
            rewards, correct: of each response, [N].
            groups: of each, all of them with all their responses.
        """
        if not self.drops:
            return np.ones(len(groups), np.bool_)
        informative = group_relative_advantages(rewards, groups).informative
        if not self.keeps_failed:
            return informative
        _, group = np.unique(np.asarray(groups), return_inverse=True)
        solved = np.bincount(group, weights=np.asarray(correct, np.float64))[group] > 0
        return informative | ~solved
