"""What a step waited for, by hand; and its properties for any spans."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlad_core.metric_specs import STAGES
from rlad_core.timeline import RecentStages, StageSpan, added_by_teacher, critical_path


def span(stage: str, start: float, end: float) -> StageSpan:
    return StageSpan(stage, start, end)  # type: ignore[arg-type]


def test_the_teacher_that_works_behind_a_longer_rollout_is_not_on_the_path() -> None:
    """Two groups are sampled until 4 and 6; the first is scored until 5, the second until 7; an update
    follows."""
    spans = [
        span("rollout", 0, 4), span("rollout", 0, 6), span("teacher", 4, 5), span("teacher", 6, 7),
        span("update", 7.5, 10),
    ]  # fmt: skip
    assert critical_path(spans, 0, 10) == {"update": 2.5, "idle": 0.5, "teacher": 1.0, "rollout": 6.0}


def test_spans_are_cut_to_the_step() -> None:
    assert critical_path([span("rollout", -5, 3), span("step", 0, 4)], 0, 4) == {"rollout": 3.0, "idle": 1.0}
    assert critical_path([], 0, 4) == {"idle": 4.0}
    with pytest.raises(ValueError, match="not after its start"):
        critical_path([], 4, 4)


def test_what_the_teacher_adds_is_what_a_learner_waits_for_after_it_has_asked() -> None:
    """All of the batch was sampled at 10 and scored at 70; from 72 to 75 its scores were looked at."""
    waits = [(10.0, 70.0), (72.0, 75.0)]
    assert added_by_teacher(waits, 0.0) == 63.0
    assert added_by_teacher(waits, 60.0) == 13.0
    assert added_by_teacher(waits, 71.0) == 3.0
    assert added_by_teacher(waits, 80.0) == 0.0
    assert added_by_teacher([], 0.0) == 0.0


TIMES = st.floats(0, 10, allow_nan=False)
SPANS = st.lists(
    st.tuples(st.sampled_from([stage for stage in STAGES if stage != "step"]), TIMES, TIMES).map(
        lambda t: span(t[0], min(t[1:]), max(t[1:]))
    ),
    max_size=12,
)


@given(SPANS)
def test_the_path_is_as_long_as_the_step(spans: list[StageSpan]) -> None:
    path = critical_path(spans, 1, 9)
    assert sum(path.values()) == pytest.approx(8)
    assert all(seconds > 0 for seconds in path.values())
    for stage, seconds in path.items():
        if stage != "idle":
            inside = sum(max(0.0, min(s.end, 9) - max(s.start, 1)) for s in spans if s.stage == stage)
            assert seconds <= inside + 1e-9


def test_percentiles_are_over_the_last_steps() -> None:
    recent = RecentStages(3)
    for seconds in (100.0, 1.0, 2.0):
        recent.add({"step": seconds, "teacher": seconds / 2})
    found = recent.add({"step": 3.0})  # a step without a teacher; the one of 100 s has gone
    assert found["step", "p50"] == 2.0
    assert found["step", "p99"] == pytest.approx(2.98)
    assert found["teacher", "p50"] == pytest.approx(0.75)
