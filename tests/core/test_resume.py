"""What a resumed run may change: declared at each setting, compared setting by setting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from rlad_core.config import RunConfig, load
from rlad_core.config.resume import changes, refused, rule_of
from rlad_core.config.teachers import KINDS as TEACHERS
from rlad_core.objectives import KINDS as OBJECTIVES
from rlad_core.sections.findings import _sections_in
from rlad_core.sections.resume import OnResume
from rlad_core.tasks import SECTIONS


def undeclared(section: type[BaseModel], around: OnResume | None, path: str) -> Iterator[str]:
    """Settings of which nobody says whether they may change."""
    around = getattr(section, "on_resume", None) or around
    for name, field in section.model_fields.items():
        inside = list(_sections_in(field))
        rule = rule_of(field, around)
        for each in inside:
            yield from undeclared(each, None if rule is OnResume.GROWS else rule, f"{path}{name}.")
        if not inside and rule is None:
            yield path + name


def test_every_setting_says_whether_it_may_change() -> None:
    assert list(undeclared(RunConfig, None, "")) == []
    for kind in (*TEACHERS.values(), *OBJECTIVES.values(), *SECTIONS.values()):
        assert list(undeclared(kind, None, f"{kind.__name__}.")) == []


@pytest.mark.parametrize(
    "override",
    [
        "learner.workers=2",
        "learner.tokens_per_micro_batch=20000",
        "learner.checkpoint_every=1",
        "rollout.timeout_s=9",
        "verifier.workers=3",
        "output.keep_checkpoints=7",
        "telemetry.log_level=DEBUG",
        "cluster.num_cpus=4",
        "policy.max_length=600",
        "rollout.max_response_length=401",
        "stages.0.steps=61",
        "teacher.num_replicas=2",
        "evaluation.every=3",
    ],
)
def test_what_may_change(override: str) -> None:
    both = ["policy.max_length=512", "rollout.max_response_length=400"]
    before, now = load("kk-tiny-trrd", both), load("kk-tiny-trrd", [*both, override])
    [change] = changes(before, now, done=30)
    assert (change.path, change.refused) == (override.partition("=")[0], "")


@pytest.mark.parametrize(
    ("override", "path", "why"),
    [
        ("seed=5", "seed", "another experiment"),
        ("learner.lr=1e-5", "learner.lr", "another experiment"),
        ("rollout.group_size=4", "rollout.group_size", "another experiment"),
        ("task.train.count=9", "task.train.count", "another experiment"),
        ("stages.0.objective.alpha=0.25", "stages.0.objective.alpha", "another experiment"),
        ("stages.0.objective={kind: grpo}", "stages.0.objective.kind", "another experiment"),
        ("teacher={kind: http, url: 'http://localhost:1'}", "teacher.kind", "another experiment"),
        ("policy.max_length=140", "policy.max_length", "may only be raised"),
        ("stages.0.steps=59", "stages.0.steps", "may only be raised"),
    ],
)
def test_what_may_not_is_listed_with_both_values(override: str, path: str, why: str) -> None:
    [change] = refused(changes(load("kk-tiny-trrd"), load("kk-tiny-trrd", [override]), done=30))
    assert change.path == path
    assert why in str(change)
    assert " -> " in str(change)


TWO = "stages=[{steps: 5, objective: {kind: grpo}}, {steps: 5, objective: {kind: trrd}}]"
NO_WARMUP = "learner.warmup_steps=0"


def test_stages_get_longer_and_more_but_not_behind_the_run() -> None:
    before = load("kk-tiny-trrd", [TWO, NO_WARMUP])
    longer = load("kk-tiny-trrd", [TWO, NO_WARMUP, "stages.0.steps=8"])
    assert not refused(changes(before, longer, done=5))
    assert "is over" in str(refused(changes(before, longer, done=6))[0])
    third = TWO[:-1] + ", {steps: 1, objective: {kind: opd}}]"
    more = load("kk-tiny-trrd", [third, NO_WARMUP])
    assert [each.path for each in changes(before, more, done=10)] == ["stages"]
    assert not refused(changes(before, more, done=10))
    [change] = refused(changes(more, before, done=0))
    assert "may only get longer" in change.refused


def test_a_stage_that_its_rule_ended_stays_as_it_was() -> None:
    ruled = [TWO, NO_WARMUP, "stages.0.until={tokens: 1000}"]
    before, now, next_one = (
        load("kk-tiny-trrd", [*ruled, *more]) for more in ([], ["stages.0.steps=8"], ["stages.1.steps=8"])
    )
    for done in (3, 4):
        [change] = refused(changes(before, now, done, {0: 3}))
        assert change.refused == "its rule (until) ended the stage after step 3 of the run"
        assert not refused(changes(before, next_one, done, {0: 3}))
    assert not refused(changes(before, now, 3))


def test_evaluations_that_end_a_stage_stay_where_they_are() -> None:
    rule = "stages.0.until={evaluations_without_rise: 3}"
    ruled = [TWO, "stages.0.steps=20", "evaluation.every=2", rule, NO_WARMUP]
    before, now = (load("kk-tiny-trrd", [*ruled, *more]) for more in ([], ["evaluation.every=4"]))
    [change] = refused(changes(before, now, done=4))
    assert (change.path, change.old, change.new) == ("evaluation.every", 2, 4)
    assert "stages.0.until counts evaluations" in change.refused
    by_tokens = [TWO, "evaluation.every=2", "stages.0.until={tokens: 1000}", NO_WARMUP]
    before, now = (load("kk-tiny-trrd", [*by_tokens, *more]) for more in ([], ["evaluation.every=4"]))
    assert not refused(changes(before, now, done=4))
