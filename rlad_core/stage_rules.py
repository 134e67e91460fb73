"""Stages that end by a rule (`rlad_core.config.stage_end`): what has been seen, and what follows from it.

One place holds it for all ranks: who collects a step's experience says in which stage the step lies, and the
learner tells it what came of each step. What it holds goes with every checkpoint, so that a run that is
resumed ends its stages where it would have ended them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlad_core.config import RunConfig
from rlad_core.config.run import StagePosition
from rlad_core.objectives import Objective

DISAGREEMENT = "teacher_disagreement"
"""The share of tokens where teacher and verifier disagree in sign, by its name in metrics.jsonl."""


class StageRules:
    """Which stage a step lies in, where stages may end early.

    Args:
        config: the run.
        kept: what `kept` said at a checkpoint; None: the run is at its beginning.

    Attributes:
        early_ends: number of a stage -> step before which it ended by its rule.
    """

    def __init__(self, config: RunConfig, kept: Mapping[str, Any] | None = None) -> None:
        self._config = config
        told = kept or {}
        # A fork goes on from a run whose stages may have been others.
        ruled = {index for index, stage in enumerate(config.stages) if stage.until is not None}
        self.early_ends: dict[int, int] = {
            stage: end for stage, end in told.get("early_ends", []) if stage in ruled
        }
        self._tokens = int(told.get("tokens", 0))
        self._best: float | None = told.get("best")
        self._without_rise = int(told.get("without_rise", 0))

    @property
    def kept(self) -> dict[str, Any]:
        """What a checkpoint must keep, as JSON."""
        return {
            "early_ends": [list(each) for each in self.early_ends.items()],
            "tokens": self._tokens,
            "best": self._best,
            "without_rise": self._without_rise,
        }

    def position(self, step: int) -> StagePosition:
        """Where a step lies, see `RunConfig.position`."""
        return self._config.position(step, self.early_ends)

    def objective(self, step: int) -> Objective:
        """That of the stage of a step."""
        return self.position(step).stage.objective

    def last(self, step: int) -> int:
        """The last step of a step's stage, as far as is known."""
        place, last = self.position(step), step
        while last + 1 < self._config.total_steps and self.position(last + 1).index == place.index:
            last += 1
        return last

    def after(self, step: int, numbers: Mapping[str, float], accuracy: float | None) -> str | None:
        """Note what came of a step, and whether its stage ends with it.

        Args:
            step: that was trained on.
            numbers: of it, by their names in metrics.jsonl; ``trained_tokens`` and `DISAGREEMENT` are read.
            accuracy: on the held-out prompts, where it was measured after this step.

        Returns:
            Why its stage ends, for people; None: it does not, or its steps are done.
        """
        place = self.position(step)
        if (
            place.step == 0
        ):  # not where a stage ends: a run that is resumed may have more stages, or longer ones
            self._tokens, self._best, self._without_rise = 0, None, 0
        self._tokens += int(numbers.get("trained_tokens", 0))
        if accuracy is not None:
            rises = self._best is None or accuracy > self._best
            self._without_rise = 0 if rises else self._without_rise + 1
            self._best = accuracy if rises else self._best
        if step + 1 >= self._config.total_steps:
            return None
        over = self.position(step + 1).index > place.index
        why = None if over else self._why(place, numbers.get(DISAGREEMENT, math.nan))
        if why is not None:
            self.early_ends[place.index] = step + 1
        return why

    def _why(self, place: StagePosition, disagreement: float) -> str | None:
        rules = place.stage.until
        if rules is None:
            return None
        if rules.tokens is not None and self._tokens >= rules.tokens:
            return f"{self._tokens:,} tokens were trained on"
        most = rules.evaluations_without_rise
        if most is not None and self._without_rise >= most:
            return f"the accuracy was not above {self._best:.1%} in {most} evaluations"
        if rules.disagreement is not None and disagreement > rules.disagreement:
            return f"teacher and verifier disagree on {disagreement:.1%} of the tokens"
        return None
