"""The stage table: times worked out by hand, and shares that add up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.metric_specs import STAGES
from rlad_core.timeline import StageSpan, stage_table


def test_by_hand() -> None:
    spans = [
        StageSpan("step", 0, 100),
        StageSpan("rollout", 0, 40, items=8, tokens=100),
        StageSpan("rollout", 10, 50, items=8, tokens=120),
        StageSpan("teacher", 30, 45, items=8),  # behind the rollouts
        StageSpan("teacher", 45, 60, items=8),  # 5 of 15 behind them
        StageSpan("verify", 55, 58),  # behind the teacher
        StageSpan("update", 65, 120),  # outlasts the step
        StageSpan("update", -10, 0),  # belongs to the step before
    ]
    table = {row.stage: row for row in stage_table(reversed(spans), 0, 100)}
    assert list(table) == ["rollout", "teacher", "verify", "update", "idle"]
    assert table["rollout"].wall_seconds == 50
    assert (table["rollout"].items, table["rollout"].tokens, table["rollout"].spans) == (16, 220, 2)
    assert (table["teacher"].wall_seconds, table["teacher"].exposed_seconds) == (30, 10)
    assert table["teacher"].hidden_seconds == 20
    assert (table["verify"].wall_seconds, table["verify"].exposed_seconds) == (3, 0)
    assert table["update"].exposed_seconds == 35
    assert table["idle"].exposed_seconds == 5
    assert [row.share for row in table.values()] == [0.5, 0.1, 0.0, 0.35, 0.05]


spans_of_any_kind = st.lists(
    st.builds(
        lambda stage, start, length: StageSpan(stage, start, start + length),
        st.sampled_from(STAGES),
        st.integers(-50, 150),
        st.integers(0, 60),
    ),
    max_size=30,
)


@given(spans_of_any_kind)
@settings(max_examples=100, deadline=None)
def test_exposed_times_are_the_step(spans: list[StageSpan]) -> None:
    rows = stage_table(spans, 0, 100)
    assert sum(row.exposed_seconds for row in rows) == pytest.approx(100)
    for row in rows:
        assert 0 <= row.exposed_seconds <= row.wall_seconds <= 100


def test_a_step_has_a_length() -> None:
    with pytest.raises(ValueError, match="not after its start"):
        stage_table([], 1, 1)
