"""Where the time of a step went: from the spans of its stages to a table.

Stages overlap: the teacher and the verifier work on finished groups while others are still being generated.
So two times are told apart for every stage: `wall_seconds`, in which at least one of its spans was open, and
`exposed_seconds`, in which it was open and no earlier stage of the pipeline was. The exposed times never
overlap; with the idle time they add up to the step. The teacher's exposed time is what the teacher costs a
step; the rest, `hidden_seconds`, went by behind the rollouts.

Where groups are sampled ahead, some group is nearly always in work, and the last weights may still be on
their way. What is open then says nothing of what holds a step up, so `waited_for` cuts what goes on behind
the learner to the time in which the learner waited for its batch. What the learner does itself, one thing
after the other, counts whole:

    asked ----------- sampled ------ scored ---- looked at ---- got -------------------------------> end
      rollouts          teacher,       others      teacher,      the learner's own: update, weight_sync, ...
                        reference                  reference
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rlad_core.metric_specs import PERCENTILES, RECENT_STEPS, STAGES, StepStage

Times = Sequence[tuple[float, float]]
"""Start and end of each, in seconds since the epoch."""


@dataclass(frozen=True)
class StageSpan:
    """One span; start and end in seconds since the epoch, so that processes can be compared.

    Attributes:
        end: infinite where it had not ended when it was told.
        items, tokens: what it finished.
        failed: it ended in an exception.
        behind: it goes on behind the learner, in the learner's own process.
    """

    stage: StepStage
    start: float
    end: float
    items: int = 0
    tokens: int = 0
    failed: bool = False
    behind: bool = False


@dataclass(frozen=True)
class BatchTimes:
    """Of a batch whose responses were sampled for it; all in seconds since the epoch.

    Attributes:
        sampled: when its last response was there.
        judged: when the last word of the verifier, and of the frozen reference, was there.
        missing: times in which all its responses were there, and the word of the teacher, or of the
            reference, on them was not; by stage.
    """

    sampled: float
    judged: float = 0.0
    missing: Mapping[StepStage, Times] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRow:
    """One line of a step's stage table.

    Attributes:
        stage: its name, or "idle" for the time that no stage accounts for.
        spans: how many there were.
        wall_seconds: time in which at least one was open.
        exposed_seconds: time in which at least one was open and none of an earlier stage; where groups are
            sampled ahead, of those that the step waited for.
        share: exposed_seconds over the length of the step.
        items, tokens: what the spans finished.
    """

    stage: str
    spans: int
    wall_seconds: float
    exposed_seconds: float
    share: float
    items: int
    tokens: int

    @property
    def hidden_seconds(self) -> float:
        """Time in which the stage ran behind an earlier one, or behind the learner."""
        return self.wall_seconds - self.exposed_seconds


def stage_table(
    spans: Iterable[StageSpan], start: float, end: float, waited: Iterable[StageSpan] | None = None
) -> list[StageRow]:
    """The stage table of a step that lasted from `start` to `end` (seconds since the epoch).

    Args:
        spans: of any process; those of the stage "step" are left out, the others cut to the step.
        waited: the parts of them that the step waited for, of which alone time is exposed; None: all of them.

    Returns:
        A row for each stage that had a span, in the pipeline's order, and a last one "idle".

    Raises:
        ValueError: the step does not end after its start.
    """
    if end <= start:
        raise ValueError(f"the step ends at {end}, not after its start {start}")
    by_stage: dict[str, list[StageSpan]] = {stage: [] for stage in STAGES if stage != "step"}
    for span in spans:
        if span.stage != "step" and span.end > start and span.start < end:
            by_stage[span.stage].append(span)
    waited = None if waited is None else list(waited)
    rows, covered, taken = [], [(start, start)], 0.0
    for stage, of_stage in by_stage.items():
        if not of_stage:
            continue
        cut = _cut(of_stage, stage, start, end)
        covered = _union([*covered, *(cut if waited is None else _cut(waited, stage, start, end))])
        exposed = _length(covered) - taken
        taken += exposed
        rows.append(
            StageRow(
                stage=stage,
                spans=len(of_stage),
                wall_seconds=_length(_union(cut)),
                exposed_seconds=exposed,
                share=exposed / (end - start),
                items=sum(span.items for span in of_stage),
                tokens=sum(span.tokens for span in of_stage),
            )
        )
    idle = end - start - taken
    return [*rows, StageRow("idle", 0, idle, idle, idle / (end - start), 0, 0)]


def seconds_at_work(table: Iterable[StageRow], stage: StepStage) -> float:
    """Seconds of a step in which a stage was at work; 0 where it was not."""
    return sum(row.wall_seconds for row in table if row.stage == stage)


def seconds_between(spans: Iterable[StageSpan], stage: StepStage, start: float, end: float) -> float:
    """Seconds between two moments (since the epoch), of whatever steps, in which a stage was at work."""
    return _length(_union(_cut(spans, stage, start, end)))


def waited_for(behind: Iterable[StageSpan], asked: float, got: float, batch: BatchTimes) -> list[StageSpan]:
    """The parts of spans that a learner waited for, where groups are sampled ahead.

    Until all of the batch was sampled that is whatever was open. Afterwards it is no rollout, which is
    another step's, and teacher and reference only while their word on this batch was missing.

    Args:
        behind: of what goes on behind the learner.
        asked, got: when it asked for the batch, and when it had it, in seconds since the epoch.
    """
    until_sampled = (asked, min(batch.sampled, got))
    groups: tuple[StepStage, ...] = ("rollout", "teacher", "reference")
    times = {stage: [until_sampled, *batch.missing.get(stage, ())] for stage in groups}
    parts = []
    for span in behind:
        for first, last in times.get(span.stage, [(asked, got)]):
            low, high = max(span.start, first, asked), min(span.end, last, got)
            if low < high:
                parts.append(replace(span, start=low, end=high))
    return parts


def added_by_own_teacher(table: Iterable[StageRow], waited: float) -> float:
    """Seconds that an older policy, which the learner itself asks, adds to a step while groups are sampled
    ahead: those that the learner would not have waited for its batch instead.

    Args:
        waited: seconds of the step for the batch.
    """
    return max(0.0, seconds_at_work(table, "teacher") - waited)


def added_by_teacher(waits: Times, since: float) -> float:
    """Seconds that the teacher adds to a step while groups are sampled ahead: in which a learner that has
    asked for its batch waits for nothing else, neither a response nor the verifier nor the reference.

    What other groups are sampled meanwhile, some of which may take very long, is no part of it.

    Args:
        waits: start and end of each time in which all responses of the batch were there and the teacher's
            word on them was not, in seconds since the epoch; they do not overlap.
        since: when the learner had asked for the batch, and all of it was judged (`BatchTimes.judged`).
    """
    return sum(max(0.0, end - max(start, since)) for start, end in waits)


def critical_path(spans: Iterable[StageSpan], start: float, end: float) -> dict[str, float]:
    """What a step waited for, from its end back to its start: seconds by stage, and `idle`, adding up to
    the step.

    At each moment it is the span that ended last before it: what came after could not begin earlier. Of
    spans that end at the same moment the one that began last is taken, since it was waited for less long.

    Args:
        spans: of any process; those of the stage "step" are left out.
        start, end: of the step, in seconds since the epoch.

    Returns:
        A value for each stage that is on the path.

    Raises:
        ValueError: the step does not end after its start.
    """
    if end <= start:
        raise ValueError(f"the step ends at {end}, not after its start {start}")
    waiting = sorted(
        ((min(s.end, end), max(s.start, start), s.stage) for s in spans if s.stage != "step"),
        key=lambda span: span[:2],
    )
    path: dict[str, float] = defaultdict(float)
    now = end
    while now > start and waiting:
        last, first, stage = waiting.pop()
        if last <= start:
            break
        if first >= now:  # begun behind what is on the path already
            continue
        path["idle"] += max(0.0, now - last)
        path[stage] += min(now, last) - first
        now = first
    path["idle"] += now - start
    return {stage: seconds for stage, seconds in path.items() if seconds > 0}


class RecentStages:
    """Percentiles of the time of each stage over the last steps: by steps, whatever they take."""

    def __init__(self, steps: int = RECENT_STEPS) -> None:
        self._steps: deque[Mapping[str, float]] = deque(maxlen=steps)

    def add(self, seconds: Mapping[str, float]) -> dict[tuple[str, str], float]:
        """Take a step's seconds by stage in; value by (stage, percentile). A stage that a step did without
        is no part of that step.
        """
        self._steps.append(dict(seconds))
        by_stage: dict[str, list[float]] = defaultdict(list)
        for step in self._steps:
            for stage, value in step.items():
                by_stage[stage].append(value)
        return {
            (stage, name): float(np.quantile(values, share))
            for stage, values in by_stage.items()
            for name, share in PERCENTILES.items()
        }


def _cut(spans: Iterable[StageSpan], stage: str, start: float, end: float) -> list[tuple[float, float]]:
    """What of a stage's spans lies between two moments."""
    return [
        (max(span.start, start), min(span.end, end))
        for span in spans
        if span.stage == stage and span.end > start and span.start < end
    ]


def _union(intervals: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same points as disjoint intervals in rising order."""
    merged: list[tuple[float, float]] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged


def _length(intervals: Iterable[tuple[float, float]]) -> float:
    return sum(high - low for low, high in intervals)
