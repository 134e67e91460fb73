"""Stages that end by a rule: each rule, the steps that are left, and a run that is resumed anywhere."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from example_recipe import read, the_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.config import RunConfig
from rlad_core.stage_rules import DISAGREEMENT, StageRules


def config(until: str, *more: str) -> RunConfig:
    """Four steps of OPD at most, then four of GRPO and two more."""
    stages = (
        f"stages=[{{steps: 4, objective: {{kind: opd}}, until: {until}}}, "
        "{steps: 4, objective: {kind: grpo}, until: {tokens: 250}}, {steps: 2, objective: {kind: grpo}}]"
    )
    return read(stages, "evaluation.every=1", "learner.warmup_steps=0", *more)


def told(rules: StageRules, seen: list[tuple[int, float, float | None]]) -> list[str | None]:
    """What each step's (tokens, disagreement, accuracy) led to."""
    return [
        rules.after(step, {"trained_tokens": tokens, DISAGREEMENT: share}, accuracy)
        for step, (tokens, share, accuracy) in enumerate(seen)
    ]


def stages_of(rules: StageRules) -> list[tuple[int, int, int]]:
    """Of each step of the run: stage, step of the stage, and how many it has."""
    places = [rules.position(step) for step in range(10)]
    return [(place.index, place.step, place.steps) for place in places]


def test_without_a_rule_that_holds_a_stage_has_its_steps() -> None:
    rules = StageRules(config("{tokens: 1000000}"))
    assert told(rules, [(10, 0.5, 0.1)] * 9) == [None] * 9
    assert [index for index, _, _ in stages_of(rules)] == [0] * 4 + [1] * 4 + [2] * 2


def test_tokens_are_counted_from_the_stages_first_step_and_the_next_stage_has_the_rest() -> None:
    rules = StageRules(config("{tokens: 250}"))
    seen: list[tuple[int, float, float | None]] = [(100, 0.0, None)] * 6
    assert told(rules, seen) == [
        *(None, None, "300 tokens were trained on"),
        *(None, None, "300 tokens were trained on"),
    ]
    assert stages_of(rules) == [
        *((0, step, 4) for step in range(3)),
        *((1, step, 5) for step in range(3)),
        *((2, step, 4) for step in range(4)),
    ]


def test_an_accuracy_that_rises_no_longer() -> None:
    rules = StageRules(config("{evaluations_without_rise: 2}"))
    seen = [(1, 0.0, 0.25), (1, 0.0, 0.5), (1, 0.0, 0.5), (1, 0.0, None)]
    assert told(rules, seen) == [None] * 4, "one evaluation without a rise, and none in the last step"
    rules = StageRules(config("{evaluations_without_rise: 2}"))
    why = told(rules, [(1, 0.0, 0.5), (1, 0.0, 0.25), (1, 0.0, 0.5)])
    assert why == [None, None, "the accuracy was not above 50.0% in 2 evaluations"]
    assert rules.early_ends == {0: 3}


def test_disagreement_above_the_share() -> None:
    rules = StageRules(config("{disagreement: 0.3}"))
    assert told(rules, [(1, 0.3, None), (1, float("nan"), None), (1, 0.31, None)]) == [
        *(None, None),
        "teacher and verifier disagree on 31.0% of the tokens",
    ]


FIRST = "{steps: 4, objective: {kind: opd}, until: {tokens: 300, disagreement: 0.9}}"
SECOND = "{steps: 2, objective: {kind: grpo}}"
THIRD = "{steps: 4, objective: {kind: grpo}, until: {tokens: 250, evaluations_without_rise: 2}}"
SEEN = st.lists(
    st.tuples(st.integers(0, 200), st.floats(0, 1), st.none() | st.floats(0, 1)), min_size=11, max_size=11
)


def planned(*stages: str) -> RunConfig:
    """A run of these stages."""
    return read(f"stages=[{', '.join(stages)}]", "evaluation.every=1", "learner.warmup_steps=0")


WHOLE = planned(FIRST, SECOND, THIRD, SECOND)
BEGUN = planned(FIRST, SECOND)


@given(seen=SEEN, resumed=st.sets(st.integers(0, 11)), begun=st.sampled_from([WHOLE, BEGUN]))
@settings(max_examples=100, deadline=None)
def test_a_resumed_run_ends_its_stages_where_it_would_have(
    seen: list[Any], resumed: set[int], begun: RunConfig
) -> None:
    plan, straight, again = begun, StageRules(WHOLE), StageRules(begun)
    for step, (tokens, share, accuracy) in enumerate(seen):
        if step == plan.total_steps or step in resumed:
            plan = WHOLE if step >= plan.total_steps else plan  # resumed with more stages
            again = StageRules(plan, json.loads(json.dumps(again.kept)))
        numbers: Mapping[str, float] = {"trained_tokens": tokens, DISAGREEMENT: share}
        assert again.after(step, numbers, accuracy) == straight.after(step, numbers, accuracy)
    assert [again.position(step) for step in range(12)] == [straight.position(step) for step in range(12)]
    assert again.kept == straight.kept


def test_a_stage_that_is_lengthened_at_its_end_goes_on_counting() -> None:
    rules = StageRules(planned(FIRST.replace("steps: 4", "steps: 2"), SECOND))
    assert told(rules, [(100, 0.0, None)] * 2) == [None, None]
    rules = StageRules(planned(FIRST, SECOND), rules.kept)
    assert rules.after(2, {"trained_tokens": 100, DISAGREEMENT: 0.0}, None) == "300 tokens were trained on"


def test_the_rate_of_a_stage_goes_by_the_steps_it_has() -> None:
    plan = config("{tokens: 1}")
    assert plan.position(5).step == 1
    assert plan.position(5, {0: 1}).step == 4
    assert plan.position(9, {0: 1, 1: 2}).steps == 8
    with pytest.raises(IndexError, match="past the end"):
        plan.position(10, {0: 1})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("stages.1.until={tokens: 9}", "stages.1.until (null): the last stage ends with the run"),
        ("stages.0.until={}", "stages.0.until ({}): has no rule. Write tokens: 100000, say, or until: null"),
        ("stages.0.until={evaluations_without_rise: 3}", "nothing is evaluated on the way"),
        (
            "evaluation.every=2 and stages.0.until={evaluations_without_rise: 4}",
            "stages.0.until.evaluations_without_rise (4): there are 4 evaluations before the last step of "
            "the stage, and 5 are needed. Write less here or in evaluation.every",
        ),
        ("stages.0={steps: 5, objective: {kind: grpo}, until: {disagreement: 0.2}}", "no log-probs of a te"),
    ],
)
def test_rules_that_cannot_be(change: str, says: str) -> None:
    assert says in the_problem(*change.split(" and "))


def test_a_later_stage_may_have_the_steps_that_an_earlier_one_left_over() -> None:
    stages = (
        "stages=[{steps: 10, objective: {kind: opd}, until: {tokens: 9}}, "
        "{steps: 5, objective: {kind: grpo}, until: {evaluations_without_rise: 6}}, "
        "{steps: 2, objective: {kind: grpo}}]"
    )
    every = ("evaluation.every=2", "learner.warmup_steps=0")
    assert read(stages, *every).stages[1].until is not None  # 13 steps before its last one
    assert "there are 7 evaluations" in the_problem(stages.replace("rise: 6", "rise: 7"), *every)
    alone = stages.replace(", until: {tokens: 9}", "")
    assert "there are 2 evaluations" in the_problem(alone, *every)
