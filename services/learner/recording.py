"""Rank 0 records a step: its metrics, its line in the run's record, a sample of what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlad_core import metrics
from rlad_core.config import RunConfig
from rlad_core.group_rule import GroupRule
from rlad_core.objectives import Objective, Statistic
from rlad_core.recorded import labelled
from rlad_core.timeline import RecentStages
from services.base import telemetry
from services.experience.shards import Shard
from services.learner.actors import Actors
from services.learner.checkpoints import is_due
from services.learner.planned import record_memory
from services.learner.step_metrics import (
    empty_told,
    forget_steps,
    mismatch_told,
    record_path,
    record_recent,
    record_step,
    record_teacher_cost,
    step_row,
)
from services.learner.step_times import StepTimes


class StepRecorder:
    """Of one run, from where its learner began.

    Args:
        actors: the journal keeps the record.

    Attributes:
        told: the last step in numbers, by their names in metrics.jsonl; none before the first.
    """

    def __init__(self, config: RunConfig, actors: Actors) -> None:
        self._config = config
        self._actors = actors
        self._recent = RecentStages()
        self._stage = 0
        """Of the recipe, in which the last step was."""
        self.told: dict[str, float] = {}
        self._keeping: tuple[int, Any] | None = None
        """Of which step experience is being written, and the journal's answer to come."""

    def record(self, step: int, shard: Shard, statistics: Mapping[str, Statistic], times: StepTimes) -> None:
        """Record a step that was trained on this rank's shard of its batch.

        Raises:
            Exception: what kept the journal from it, or from the experience of the step before.
        """
        self.settle()
        config, journal = self._config, self._actors.journal
        table, seconds, facts = times.table, times.seconds, shard.facts
        numbers = {**facts.numbers, **{name: s.mean for name, s in statistics.items()}, **times.numbers}
        is_first, self.told = not self.told, numbers
        place = config.position(step, shard.early_ends)
        stage = place.stage
        row = step_row(step, stage.label, numbers, table, seconds=seconds)
        if place.index != self._stage:
            forget_steps()
            self._stage = place.index
        supervised = not stage.objective.trains_on_rollouts
        record_step(step + 1, numbers, table, seconds=seconds, supervised=supervised)
        record_path(times.path)
        record_recent(self._recent, table, seconds)
        if stage.objective.scores_with_teacher:
            record_teacher_cost(config.teacher_devices[1], times.teacher_s, numbers["trained_tokens"])
        record_memory()
        telemetry.gauge(metrics.RUN_RECIPE_STAGE, place.index)
        if is_first and (differ := mismatch_told(numbers, config.policy.dtype)) is not None:
            journal.note.remote(differ)
        if (empty := empty_told(step, numbers)) is not None:
            journal.note.remote(empty)
        stale = facts.stale_masked if config.rollout.max_staleness else None
        told = journal.step.remote(row, facts.trained_groups, facts.dropped_groups, facts.visits, stale)
        self._actors.ask(told, f"the record of step {step}")
        self._keep_experience(step, shard, stage.objective)

    def settle(self) -> None:
        """Wait until what is kept of the last step's experience is written: before a checkpoint, behind which
        no run goes back for it.

        Raises:
            Exception: what kept the journal from it.
        """
        if self._keeping is not None:
            step, told = self._keeping
            self._actors.ask(told, f"the experience of step {step}")
            self._keeping = None

    def _keep_experience(self, step: int, shard: Shard, objective: Objective) -> None:
        """Give the journal what the run keeps of the step's rows, which it writes meanwhile."""
        settings, journal = self._config.telemetry, self._actors.journal
        if shard.whole is not None:
            self._keeping = step, journal.sample.remote(step, shard.whole)
            return
        if settings.keep_experience != "sampled" or not is_due(settings.sample_experience_every, step):
            return
        rows = self._actors.ask(shard.table, f"the rows of step {step}")
        if len(rows):
            some = rows.slice(0, settings.sample_experience_rows)
            counted = shard.plan.counted_versions
            rule = GroupRule.of(objective, drop_uninformative=self._config.rollout.drop_uninformative)
            sample = labelled(some, shard.end_tokens, counted, whole=False, rule=rule)
            self._keeping = step, journal.sample.remote(step, sample)
