"""Where the time of a step went, as rank 0 tells it, strictly on-policy and where groups are sampled ahead.

    start --- asked ~~~ got ------------------ trained ----------- end          next start ---
                wait for   old log-probs,        publish             evaluation,
                the batch  update                                    checkpoint

The table, the path and the idle shares are of the time from start to end. A teacher that works ahead works
between steps too: what it takes is told from one `trained` to the next, where every second lies in one step.

A teacher that tells hidden states works behind the learner's update. What the update waits for it is no part
of the update's, but of the teacher's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from rlad_core.config import RunConfig
from rlad_core.timeline import (
    BatchTimes,
    StageRow,
    StageSpan,
    added_by_own_teacher,
    added_by_teacher,
    critical_path,
    seconds_at_work,
    seconds_between,
    stage_table,
    waited_for,
)


class StepClock:
    """Of a step that begins now.

    Moments are seconds since the epoch, as other processes report their spans; the intervals between them
    come from the monotonic clock, since the wall clock may be set meanwhile.
    """

    def __init__(self) -> None:
        self.start = time.time()
        self._begun = time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.start + time.monotonic() - self._begun


@dataclass(frozen=True)
class StepMoments:
    """Of a step, in seconds since the epoch.

    Attributes:
        trained_before: when the step before was trained, or the start of the run's first one.
        start, end: of the step.
        asked, got: when the learner asked for its batch, and when it had it.
        trained: when the step was trained, and its weights were not yet published.
    """

    trained_before: float
    start: float
    asked: float
    got: float
    trained: float
    end: float

    @property
    def seconds(self) -> float:
        """Length of the step."""
        return self.end - self.start


@dataclass(frozen=True)
class StepTimes:
    """Of a step.

    Attributes:
        seconds: its length.
        table: its stage table.
        path: seconds by stage that it waited for (`rlad_core.timeline.critical_path`), with `idle`.
        teacher_s: seconds in which the teacher was at work, those between steps too.
        numbers: by their names in metrics.jsonl.
    """

    seconds: float
    table: list[StageRow]
    path: dict[str, float]
    teacher_s: float
    numbers: dict[str, float]


def step_times(
    config: RunConfig,
    moments: StepMoments,
    own: Sequence[StageSpan],
    elsewhere: Sequence[StageSpan],
    batch: BatchTimes | None,
) -> StepTimes:
    """Of a step of this run.

    Args:
        own: spans of the learner.
        elsewhere: spans of what makes the batches.
        batch: of what it was trained on; None: nothing was sampled for it.
    """
    if not config.rollout.max_staleness:
        return _in_turn(moments, own, elsewhere)
    batch = batch or BatchTimes(sampled=moments.asked)
    return _ahead(moments, own, elsewhere, batch, own_teacher=config.policy_teacher is not None)


def _in_turn(moments: StepMoments, own: Sequence[StageSpan], elsewhere: Sequence[StageSpan]) -> StepTimes:
    """Strictly on-policy: whatever is open is the step's, except behind the learner."""
    waited = [*elsewhere, *_in_order(own)]
    table = stage_table([*elsewhere, *own], moments.start, moments.end, waited)
    path = critical_path(waited, moments.start, moments.end)
    teacher_s = seconds_at_work(table, "teacher")
    return StepTimes(moments.seconds, table, path, teacher_s, _idle_shares(table, moments))


def _ahead(
    moments: StepMoments,
    own: Sequence[StageSpan],
    elsewhere: Sequence[StageSpan],
    batch: BatchTimes,
    *,
    own_teacher: bool,
) -> StepTimes:
    """While groups of the next steps are in work. The learner does one thing after another, so the exposed
    times are the path.

    Args:
        own_teacher: the learner itself is at the teacher's work.
    """
    behind, in_order = [*elsewhere, *(span for span in own if span.behind)], _in_order(own)
    waited = [*in_order, *waited_for(behind, moments.asked, moments.got, batch)]
    spans = [*elsewhere, *own]
    table = stage_table(spans, moments.start, moments.end, waited)
    path = {row.stage: row.exposed_seconds for row in table if row.exposed_seconds > 0}
    numbers = _idle_shares(table, moments)
    teacher_s = seconds_between(spans, "teacher", moments.trained_before, moments.trained)
    if teacher_s:
        numbers["teacher_at_work_seconds"] = teacher_s
        if own_teacher:
            numbers["teacher_added_seconds"] = added_by_own_teacher(table, moments.got - moments.asked)
        else:
            waits, since = batch.missing.get("teacher", ()), max(moments.start, batch.judged)
            of_update = seconds_between(in_order, "teacher", moments.start, moments.end)
            numbers["teacher_added_seconds"] = added_by_teacher(waits, since) + of_update
    return StepTimes(moments.seconds, table, path, teacher_s, numbers)


def _in_order(own: Sequence[StageSpan]) -> list[StageSpan]:
    """What the learner itself did, one thing after the other: nothing that went on behind it, and no update
    while that waited for the teacher.
    """
    spans = [span for span in own if not span.behind]
    waits = sorted((span.start, span.end) for span in spans if span.stage == "teacher")
    parts = []
    for span in spans:
        cut = [] if span.stage == "teacher" else waits
        within = (wait for wait in cut if span.start <= wait[0] and wait[1] <= span.end)
        bounds = [span.start, *chain.from_iterable(within), span.end]
        parts += [
            replace(span, start=low, end=high) for low, high in zip(bounds[::2], bounds[1::2], strict=True)
        ]
    return parts


def _idle_shares(table: Sequence[StageRow], moments: StepMoments) -> dict[str, float]:
    """Shares of a step in which the learner waited for its batch, and in which nothing at all was sampled: no
    group was with the rollout service. A single response is enough for 0, whatever places are free beside it.
    """
    sampled = seconds_at_work(table, "rollout")
    return {
        "learner_idle": (moments.got - moments.asked) / moments.seconds,
        "rollout_idle": max(0.0, 1 - sampled / moments.seconds),
    }
