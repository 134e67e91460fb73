"""Where the time of a step went, as rank 0 tells it, strictly on-policy and where groups are sampled ahead.

    start --- asked ~~~ got ------------------ trained ----------- end          next start ---
                wait for   old log-probs,        publish             evaluation,
                the batch  update                                    checkpoint

The table, the path and the idle shares are of the time from start to end. A teacher that works ahead works
between steps too: what it takes is told from one `trained` to the next, where every second lies in one step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rlad_core.config import RunConfig
from rlad_core.timeline import (
    BatchWait,
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
    """Of a step that begins now. Moments are since the epoch, as other processes tell their spans; how far
    they lie apart is no clock's to say that may be set meanwhile.
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
    teacher_waits: Sequence[tuple[float, float]],
    judged: float,
) -> StepTimes:
    """Of a step of this run.

    Args:
        own: spans of the learner.
        elsewhere: spans of what makes the batches.
        teacher_waits: of the batch, see `rlad_core.timeline.BatchWait`, from its last response on; empty
            where nothing was sampled for it.
        judged: when the verifier's last word on the batch was there, in seconds since the epoch.
    """
    if not config.rollout.max_staleness:
        return _in_turn(moments, [*elsewhere, *own])
    own_teacher = config.policy_teacher is not None
    return _ahead(moments, own, elsewhere, teacher_waits, judged, own_teacher=own_teacher)


def _in_turn(moments: StepMoments, spans: Sequence[StageSpan]) -> StepTimes:
    """Strictly on-policy: whatever is open is the step's."""
    table = stage_table(spans, moments.start, moments.end)
    path = critical_path(spans, moments.start, moments.end)
    teacher_s = seconds_at_work(table, "teacher")
    return StepTimes(moments.seconds, table, path, teacher_s, _idle_shares(table, moments))


def _ahead(
    moments: StepMoments,
    own: Sequence[StageSpan],
    elsewhere: Sequence[StageSpan],
    teacher_waits: Sequence[tuple[float, float]],
    judged: float,
    *,
    own_teacher: bool,
) -> StepTimes:
    """While groups of the next steps are in work. The learner does one thing after another, so the exposed
    times are the path.

    Args:
        own_teacher: the learner itself is at the teacher's work.
    """
    sampled = teacher_waits[0][0] if teacher_waits else moments.asked
    wait = BatchWait(moments.asked, moments.got, sampled, teacher_waits)
    behind = [*elsewhere, *(span for span in own if span.behind)]
    waited = [*(span for span in own if not span.behind), *waited_for(behind, wait)]
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
            numbers["teacher_added_seconds"] = added_by_teacher(teacher_waits, max(moments.start, judged))
    return StepTimes(moments.seconds, table, path, teacher_s, numbers)


def _idle_shares(table: Sequence[StageRow], moments: StepMoments) -> dict[str, float]:
    """Shares of a step in which the learner waited for its batch, and in which nothing at all was sampled: no
    group was with the rollout service. A single response is enough for 0, whatever places are free beside it.
    """
    sampled = seconds_at_work(table, "rollout")
    return {
        "learner_idle": (moments.got - moments.asked) / moments.seconds,
        "rollout_idle": max(0.0, 1 - sampled / moments.seconds),
    }
