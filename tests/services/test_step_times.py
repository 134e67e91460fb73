"""Where a step's time goes, by hand: a step of 100 s from 1000 on, while groups are sampled ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from rlad_core.config import load
from rlad_core.timeline import BatchTimes, StageSpan, critical_path, stage_table
from services.learner.step_times import StepClock, StepMoments, StepTimes, step_times

START = 1000.0
AHEAD = load("kk-tiny-trrd", ["rollout.max_staleness=1"])
IN_TURN = load("kk-tiny-trrd")
OPEN = math.inf
Waits = Sequence[tuple[float, float]]


def at(stage: str, start: float, end: float, *, behind: bool = False) -> StageSpan:
    """A span by seconds of the step."""
    return StageSpan(stage, START + start, START + end, behind=behind)  # type: ignore[arg-type]


def moments(got: float, trained: float, *, before: float = -40) -> StepMoments:
    """Of the step, which asks for its batch at once."""
    return StepMoments(START + before, START, START, START + got, START + trained, START + 100)


def ahead(
    own: Sequence[StageSpan],
    elsewhere: Sequence[StageSpan],
    waits: Waits,
    of: StepMoments,
    judged: float = 0.0,
    reference: Waits = (),
) -> StepTimes:
    """Waits for the teacher, and for the reference, by seconds of the step."""
    missing = {
        stage: [(START + low, START + high) for low, high in times]
        for stage, times in (("teacher", waits), ("reference", reference))
    }
    sampled = missing["teacher"][0][0] if waits else of.asked
    batch = BatchTimes(sampled, START + judged, missing)  # type: ignore[arg-type]
    return step_times(AHEAD, of, own, elsewhere, batch)


def exposed(times: StepTimes, *, in_turn: bool = False) -> dict[str, float]:
    assert sum(row.exposed_seconds for row in times.table) == pytest.approx(100)
    assert all(row.exposed_seconds <= row.wall_seconds + 1e-9 for row in times.table)
    if not in_turn:
        assert times.path == {row.stage: row.exposed_seconds for row in times.table if row.exposed_seconds}
    return {row.stage: round(row.exposed_seconds, 6) for row in times.table}


def wall(times: StepTimes) -> dict[str, float]:
    return {row.stage: round(row.wall_seconds, 6) for row in times.table}


LEARNER = [at("update", 1, 95), at("weight_sync", 95.3, 99), at("step", 0, 100)]


def test_a_learner_that_hardly_waits_is_what_holds_the_step_up() -> None:
    """One straggler is open throughout; the batch's last response came at 0.3 s."""
    times = ahead(LEARNER, [at("rollout", -60, OPEN)], [(0.3, 0.3), (0.4, 0.4)], moments(0.5, 95.1))
    assert exposed(times) == {"rollout": 0.3, "update": 94, "weight_sync": 3.7, "idle": 2.0}
    assert wall(times)["rollout"] == 100
    assert times.numbers == pytest.approx({"learner_idle": 0.005, "rollout_idle": 0.0})


def test_rollouts_that_the_learner_waits_for() -> None:
    """Of 60 s of waiting 55 are for the last response, 3 for its scores and one for its verdict."""
    elsewhere = [
        at("rollout", -20, 20), at("rollout", -5, 55), at("rollout", 30, OPEN), at("teacher", 20, 40),
        at("teacher", 55, 58), at("teacher", 57, OPEN), at("verify", 55, 59), at("assemble", 59, 60),
    ]  # fmt: skip
    own = [at("update", 60, 97), at("weight_sync", 97, 99)]
    times = ahead(own, elsewhere, [(55, 58), (59, 59)], moments(60, 97))
    assert exposed(times) == {
        "rollout": 55, "teacher": 3, "verify": 1, "assemble": 1, "update": 37, "weight_sync": 2, "idle": 1,
    }  # fmt: skip
    # The other groups go on: all of it is in the seconds.
    assert wall(times)["rollout"] == 100
    assert wall(times)["teacher"] == 20 + 45
    assert times.numbers["teacher_added_seconds"] == pytest.approx(3)


@pytest.mark.parametrize("others", [False, True])
def test_a_teacher_that_the_learner_waits_for(others: bool) -> None:
    """All was sampled before the learner asked; other groups, if any, are sampled all the time."""
    elsewhere = [at("rollout", -30, -5), at("teacher", -5, 70)]
    if others:
        elsewhere += [at("rollout", -10, OPEN), at("teacher", 20, OPEN)]
    times = ahead([at("update", 70, 100)], elsewhere, [(-5, 70), (70, 70)], moments(70, 98))
    assert exposed(times) == {"rollout": 0, "teacher": 70, "update": 30, "idle": 0} if others else {
        "teacher": 70, "update": 30, "idle": 0,
    }  # fmt: skip
    assert times.numbers["rollout_idle"] == (0 if others else 1)
    assert times.numbers["teacher_added_seconds"] == pytest.approx(70)


@pytest.mark.parametrize(("judged", "added"), [(40, 30 + 5), (55, 15 + 5), (71, 5)])
def test_while_the_verifier_is_missing_too_the_teacher_adds_nothing(judged: float, added: float) -> None:
    """The last response came at 40 s, its scores at 70 s; the look at them takes 5 s."""
    elsewhere = [at("rollout", 0, 40), at("teacher", 40, 70), at("verify", 40, judged), at("teacher", 72, 77)]
    times = ahead([at("update", 80, 100)], elsewhere, [(40, 70), (72, 77)], moments(80, 100), judged)
    assert times.numbers["teacher_added_seconds"] == pytest.approx(added)


def test_a_hand_over_behind_the_step_costs_what_the_learner_waits_for_it() -> None:
    """That of the last weights takes 97 s of the step: publishing waits for it for one more, from 96 on."""
    own = [at("update", 1, 96), at("weight_sync", -3, 97, behind=True), at("weight_sync", 96, 99)]
    times = ahead(own, [at("rollout", 0, 1)], [(1, 1), (1, 1)], moments(1, 96))
    assert exposed(times) == {"rollout": 1, "update": 95, "weight_sync": 3, "idle": 1}
    assert wall(times)["weight_sync"] == 99
    # Nothing can be begun before it is there: the learner waits for it, and then for a response.
    own = [at("weight_sync", -3, 30, behind=True), at("update", 50, 99)]
    times = ahead(own, [at("rollout", 30, 50)], [(50, 50), (50, 50)], moments(50, 99))
    assert exposed(times) == {"rollout": 20, "update": 49, "weight_sync": 30, "idle": 1}


def test_every_second_of_the_teacher_is_told_once() -> None:
    """It works from 50 s before the step, over the evaluation that ends with the step's start, to its end and
    on; the last step was trained 40 s before this one began, this one at 90 s."""
    span = [at("teacher", -50, 140)]
    first = ahead([at("update", 0, 90)], span, [(-1, 0), (0, 0)], moments(0, 90))
    assert first.teacher_s == first.numbers["teacher_at_work_seconds"] == 40 + 90
    assert wall(first)["teacher"] == 100
    later = StepMoments(START + 90, START + 130, START + 130, START + 130, START + 200, START + 210)
    second = step_times(AHEAD, later, [], span, None)
    assert second.teacher_s == 140 - 90
    # Between steps alone: it is no part of the step's table.
    between = ahead([at("update", 0, 90)], [at("teacher", -30, -10)], [], moments(0, 90))
    assert between.numbers["teacher_at_work_seconds"] == 20
    assert "teacher" not in wall(between)


def test_a_batch_for_which_nothing_was_sampled_waits_for_no_rollout() -> None:
    elsewhere = [at("rollout", -10, OPEN), at("assemble", 0, 2)]
    times = ahead([at("update", 2, 100)], elsewhere, [], moments(2, 99))
    assert exposed(times) == {"rollout": 0, "assemble": 2, "update": 98, "idle": 0}


def test_an_older_policy_that_the_learner_asks_is_its_own_work() -> None:
    config = load("kk-tiny-trrd", ["rollout.max_staleness=1", "teacher={kind: policy, every: 5}"])
    own = [at("teacher", 10, 30), at("update", 30, 100)]
    batch = BatchTimes(START + 10, START + 10)
    times = step_times(config, moments(10, 99), own, [at("rollout", -9, OPEN)], batch)
    assert exposed(times) == {"rollout": 10, "teacher": 20, "update": 70, "idle": 0}
    assert times.numbers["teacher_added_seconds"] == pytest.approx(20 - 10)


def test_strictly_on_policy_whatever_is_open_is_the_steps() -> None:
    spans = [
        at("rollout", 0, 40), at("rollout", 0, 60), at("teacher", 40, 50), at("teacher", 60, 70),
        at("assemble", 70, 71), at("update", 72, 95), at("weight_sync", 95, 99),
    ]  # fmt: skip
    own, elsewhere = spans[5:], spans[:5]
    of, batch = moments(71, 95), BatchTimes(START + 60, START + 60, {"teacher": [(START + 60, START + 70)]})
    times = step_times(IN_TURN, of, own, elsewhere, batch)
    assert times.table == stage_table(spans, START, START + 100)
    assert times.path == critical_path(spans, START, START + 100)
    assert times.path == pytest.approx(
        {"rollout": 60, "teacher": 10, "assemble": 1, "update": 23, "weight_sync": 4, "idle": 2}
    )
    assert times.teacher_s == 20
    assert times.numbers == pytest.approx({"learner_idle": 0.71, "rollout_idle": 0.4})


STATES = [
    at("update", 10, 90), at("weight_sync", 90, 95),
    # The first micro-batch's states, and those of the next, asked for while the one before is in the pass.
    at("teacher", 10, 25, behind=True), at("teacher", 10, 25),
    at("teacher", 25, 45, behind=True), at("teacher", 40, 45), at("teacher", 45, 60, behind=True),
]  # fmt: skip
"""Of a learner that asks for hidden states: it waits for 20 of the 50 s in which the teacher works for it."""


def test_what_an_update_waits_for_hidden_states_is_time_of_the_teacher() -> None:
    times = step_times(IN_TURN, moments(10, 90), STATES, [at("rollout", 0, 8), at("teacher", 6, 10)], None)
    told = {"rollout": 8, "teacher": 2 + 20, "update": 60, "weight_sync": 5, "idle": 5}
    assert exposed(times, in_turn=True) == told
    assert times.path == {"rollout": 6, "teacher": 4 + 20, "update": 60, "weight_sync": 5, "idle": 5}
    assert wall(times)["teacher"] == times.teacher_s == 4 + 50


def test_ahead_it_is_added_to_what_the_batch_waited_for() -> None:
    """Of another group's 100 s of teacher none is waited for; of this batch's 2, and 20 of the update."""
    elsewhere = [at("rollout", -9, OPEN), at("teacher", 6, 10), at("teacher", 0, OPEN)]
    times = ahead(STATES, elsewhere, [(8, 10)], moments(10, 90), judged=8)
    told = {"rollout": 8, "teacher": 2 + 20, "update": 60, "weight_sync": 5, "idle": 5}
    assert exposed(times) == told
    assert times.numbers["teacher_added_seconds"] == pytest.approx(2 + 20)


def test_a_frozen_reference_is_no_teacher() -> None:
    """It has its word 5 s before the teacher; then both are looked at, and another group is scored by it."""
    elsewhere = [
        at("rollout", 0, 40), at("reference", 30, 60), at("teacher", 40, 65), at("teacher", 65, 66),
        at("reference", 66, 68), at("reference", 50, OPEN),
    ]  # fmt: skip
    own = [at("update", 70, 100)]
    in_turn = step_times(IN_TURN, moments(70, 99), own, elsewhere[:-1], None)
    told = {"rollout": 40, "reference": 20 + 2, "teacher": 5 + 1, "update": 30, "idle": 2}
    assert exposed(in_turn, in_turn=True) == told
    assert in_turn.teacher_s == 26
    waits, reference = [(40, 65), (65, 66)], [(40, 60), (66, 68)]
    times = ahead(own, elsewhere, waits, moments(70, 99), judged=60, reference=reference)
    assert exposed(times) == told
    assert times.numbers["teacher_added_seconds"] == pytest.approx(5 + 1)


def test_a_clock_that_is_set_meanwhile_changes_no_length(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = StepClock()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert 0 <= clock.now() - clock.start < 10
