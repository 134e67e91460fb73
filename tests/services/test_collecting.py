"""A step is collected: what the learner gets, what the ledger is told, and what stops it before."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray
from teacher_faults import FAULTS, Injected

from rlad_core import schema
from rlad_core.config import load, resolve_model
from rlad_core.metric_specs import SHARED
from rlad_core.metrics import STAGE_QUEUE
from rlad_core.objectives import Objective
from rlad_core.prompt_stream import Selection
from services.base import telemetry
from services.base.log_lines import configure_logging
from services.base.telemetry import span
from services.clients.teachers import PolicyFacts, SignalError
from services.experience.batches import StepBatches
from services.experience.collector import ExperienceCollector
from services.experience.groups import Group
from services.experience.scorers import Told
from services.experience.work import GroupWork

STUDENT = resolve_model("rlad:kk-student")
#: Of the stream: its rewards are all equal, so that it is dropped.
UNINFORMATIVE = 2
#: The first five tokens of its responses are of the policy that the run began with.
OLD = 13


class Sampled:
    """In place of the services: a group of two responses to a prompt, which a real teacher scores."""

    def __init__(self, teacher: Injected) -> None:
        self.teacher = teacher

    async def work(
        self, position: int, group: pa.Table, prompts: pa.Table, sampling: Any, version: int, scorers: Any
    ) -> Group:
        with span("rollout"):
            await asyncio.sleep(0)
        row, length = group.to_pylist()[0], 20
        rows = [
            {
                **{name: row[name] for name in ("group_id", "prompt_id", "prompt_token_ids")},
                "sample_index": sample,
                "response_token_ids": [20 + (7 * place + sample) % 50 for place in range(length)],
                "rollout_logprobs": [-1.0] * length,
                "policy_versions": [
                    0 if position == OLD and place < 5 else version for place in range(length)
                ],
                "finish_reason": "stop",
                "response": "words",
            }
            for sample in range(2)
        ]
        fingerprint = schema.fingerprint_of(prompts)
        rollouts = schema.build(schema.ROLLOUTS, rows, tokenizer_fingerprint=fingerprint)
        right = [sample == 0 or position == UNINFORMATIVE for sample in range(2)]
        verdicts = [
            {
                "sequence_id": f"{row['group_id']}/{sample}",
                "reward": float(right[sample]),
                "reward_parts": {"answer": float(right[sample])},
                "correct": right[sample],
                "verdict": "so it is",
            }
            for sample in range(2)
        ]
        rewards = schema.build(schema.REWARDS, verdicts, tokenizer_fingerprint=fingerprint)
        asked = schema.to_sequences(rollouts)
        scores = await self.teacher.score(asked)
        told = {scorer.place: Told(asked, scores) for scorer in scorers}
        reference = scores if "reference" in told else None
        return Group(position, rollouts, rewards, scores, reference, told)


@pytest.fixture
def collect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Collects a run's first steps with a teacher, which is then spoiled."""
    monkeypatch.setattr(ray, "put", lambda value: value)

    async def body(teacher: Injected, fault: Any, steps: int, *overrides: str) -> list[Any]:
        config = load(
            "kk-tiny-trrd",
            ["task.train.count=20", "task.evaluation.count=4", "rollout.prompts_per_step=4", *overrides],
        )
        collector = ExperienceCollector(config, STUDENT, str(tmp_path))
        await collector.read_prompts(Selection())
        policy = PolicyFacts(collector._tokenizer, 144, prompts=collector._some_prompts)
        for place, settings in config.scorers.items():
            collector._teachers[place] = teacher
            await collector._signals.pin(place, teacher, settings, policy)
        asked: list[str] = []

        def worker(self: GroupWork, objective: Objective) -> Sampled:
            asked.append(objective.kind)
            return Sampled(teacher)

        monkeypatch.setattr(GroupWork, "_worker", worker)
        await collector.begin(None)
        teacher.fault = fault
        found, spans = [], []
        for step in range(steps):
            found.append(await collector.next_shard(step, 0))
            await collector.trained(step)
            await collector.published(step + 1)
            await asyncio.sleep(0)  # what was begun begins
            spans = await collector.spans(0.0)
            if any(stage.until is not None for stage in config.stages):
                await collector.end_stage(step, found[-1].facts.numbers, None)
        return [*found, SimpleNamespace(frontier=await collector.frontier(), asked=asked, spans=spans)]

    def collected(teacher: Injected, fault: Any = None, steps: int = 1, *overrides: str) -> list[Any]:
        try:
            return asyncio.run(body(teacher, fault, steps, *overrides))
        finally:
            configure_logging(None)
            # Other tests of this process are of no run.
            telemetry.name_run(SHARED)

    return collected


def test_a_step_has_its_visits_and_what_was_looked_at(collect: Any) -> None:
    first, second, end = collect(Injected(), steps=2)
    assert [(each.position, each.outcome, each.why) for each in first.facts.visits] == [
        (0, "trained", ""),
        (1, "trained", ""),
        (2, "dropped", "all rewards are equal"),
        (3, "trained", ""),
    ]
    assert [each.position for each in second.facts.visits] == [4, 5, 6, 7]
    visit = second.facts.visits[0]
    assert (visit.epoch, visit.epoch_prompts, visit.responses) == (0, 20, 2)
    assert (visit.sampled, visit.rewards, visit.correct) == ({1: 40}, [1.0, 0.0], [True, False])
    pinned = end.frontier["teachers"]["teacher"]["made_with"]
    assert (visit.teacher, visit.teacher_weights) == ("teacher", pinned["weights"])
    assert 1 <= first.facts.numbers["teacher_checked"] <= 2
    assert first.facts.numbers["teacher_check_difference"] < 1e-5


@pytest.mark.parametrize(("verified", "looks"), [("true", 2), ("false", 0)])
def test_the_look_at_the_scores_is_time_of_the_teacher(verified: str, looks: int, collect: Any) -> None:
    *_, end = collect(Injected(), None, 2, f"teacher.verify={verified}")
    assert sum(each.stage == "teacher" for each in end.spans) == looks


def test_the_look_at_a_frozen_reference_is_its_own_time(collect: Any) -> None:
    held = ("reference={model: 'rlad:kk-student'}", "stages.0.objective.reference_kl=0.1")
    first, end = collect(Injected(), None, 1, *held)
    stages = [each.stage for each in end.spans]
    assert (stages.count("teacher"), stages.count("reference")) == (1, 1)
    assert {stage: len(times) for stage, times in first.facts.times.missing.items()} == {
        "teacher": 1, "reference": 1,
    }  # fmt: skip


def test_what_is_begun_when_weights_are_out_was_at_work_in_the_step(collect: Any) -> None:
    """One step ahead: of two steps when the first is trained, and of a third once its weights are out."""
    *_, end = collect(Injected(), None, 1, "rollout.max_staleness=1", "teacher.verify=false")
    assert sum(each.stage == "rollout" for each in end.spans) == 4 + 4 + 4


def test_tokens_too_old_to_count_are_known_by_group_and_visit(collect: Any) -> None:
    """Step 3 with a bound of 1: of the group's two responses five tokens each are of version 0."""
    *_, third, _ = collect(Injected(), None, 4, "rollout.max_staleness=1")
    facts = third.facts
    [visit] = [each for each in facts.visits if each.position == OLD]
    assert facts.stale_masked == {visit.group_id: 10}
    assert [each.stale_masked for each in facts.visits] == [
        10 * (each.position == OLD) for each in facts.visits
    ]
    # Its others are of version 2, as all that were begun for this step: one version old.
    assert (visit.sampled, facts.numbers["stale_masked"]) == ({0: 10, 2: 30}, 10)
    assert (facts.numbers["staleness"], facts.numbers["staleness_max"]) == (1, 1)
    assert facts.numbers["trained_tokens"] == facts.numbers["tokens"] - 10


def test_stages_that_sample_nothing_lie_before_and_behind_those_that_do(collect: Any) -> None:
    stages = (
        "stages=[{steps: 2, objective: {kind: sft}}, {steps: 3, objective: {kind: trrd}},"
        " {steps: 2, objective: {kind: sft}}]"
    )
    more = ("rollout.max_staleness=2", "learner.warmup_steps=0")
    *shards, end = collect(Injected(), None, 7, stages, *more)
    visits = [[each.position for each in shard.facts.visits] for shard in shards]
    assert sorted(position for step in visits for position in step) == list(range(28))
    writers = [{each.by for each in shard.facts.visits} for shard in shards]
    assert writers == [{"task"}] * 2 + [{"policy"}] * 3 + [{"task"}] * 2
    assert (end.frontier["next_position"], end.frontier["alive"]) == (28, ())


def test_what_comes_before_what_is_said_where_it_does_not(tmp_path: Path) -> None:
    async def body() -> None:
        few = ["task.train.count=20", "task.evaluation.count=4", "rollout.prompts_per_step=4"]
        collector = ExperienceCollector(load("kk-tiny-grpo", few), STUDENT, str(tmp_path))
        with pytest.raises(RuntimeError, match="there are no prompts: `read_prompts` comes before `begin`"):
            await collector.begin(None)
        await collector.read_prompts(Selection())
        for early in (collector.next_shard(0, 0), collector.frontier(), collector.published(1)):
            with pytest.raises(RuntimeError, match="nothing is collected before `begin`"):
                await early

    try:
        asyncio.run(body())
    finally:
        configure_logging(None)
        telemetry.name_run(SHARED)


def test_what_a_lost_learner_left_waiting_waits_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(GroupWork, "_worker", lambda *_: Sampled(teacher))
    teacher = Injected()
    told: dict[str, float] = {}

    def gauge(spec: Any, value: float, **labels: str) -> None:
        if spec is STAGE_QUEUE:
            told[labels["stage"]] = value

    monkeypatch.setattr(telemetry, "gauge", gauge)

    async def body() -> dict[str, float]:
        few = ["task.train.count=20", "task.evaluation.count=4", "rollout.prompts_per_step=4"]
        collector = ExperienceCollector(load("kk-tiny-grpo", few), STUDENT, str(tmp_path))
        await collector.read_prompts(Selection())
        await collector.begin(None)
        await collector._begun.collected(0)
        before = dict(told)
        await collector.begin(None)  # the learner is lost before it takes its rows, and begins anew
        return before

    try:
        assert asyncio.run(body()) == {"assemble": 0, "update": 6}  # a group of 2 was dropped
        assert told == {"assemble": 0, "update": 0}
    finally:
        telemetry.nothing_waits()
        configure_logging(None)
        telemetry.name_run(SHARED)


def test_groups_after_a_stages_early_end_are_asked_what_the_next_one_wants(collect: Any) -> None:
    stages = (
        "stages=[{steps: 9, objective: {kind: opd}, until: {tokens: 1}}, {steps: 9, objective: {kind: trrd}}]"
    )
    *_, end = collect(Injected(), None, 2, stages)
    assert end.asked == ["opd", "trrd"]


@pytest.mark.parametrize("name", ["one late", "float16", "no end token", "zero weights"])
def test_a_wrong_signal_is_given_to_no_learner(name: str, collect: Any) -> None:
    with pytest.raises(SignalError, match=r"^teacher, step 0: "):
        collect(Injected(), FAULTS[name])


@pytest.mark.parametrize(
    ("settings", "right", "teaches"),
    [
        ({"kind": "grpo"}, [False, False], False),
        ({"kind": "grpo"}, [True, False], True),
        ({"kind": "kdrl"}, [False, False], False),
        ({"kind": "kdrl", "mask": "failed_groups"}, [False, False], True),  # where alone it distils
        ({"kind": "kdrl", "mask": "failed_groups"}, [True, True], False),
        ({"kind": "kdrl", "mask": "wrong_responses"}, [False, False], True),
        ({"kind": "kdrl", "mask": "wrong_responses"}, [True, True], False),
    ],
)
def test_whether_a_group_without_a_difference_teaches(
    settings: dict[str, Any], right: list[bool], teaches: bool
) -> None:
    config = load("kk-tiny-kdrl", [f"stages.0.objective={settings}"])
    rewards = pa.table({"reward": [float(each) for each in right], "correct": right})
    group: Any = SimpleNamespace(rewards=rewards, group_id="one")
    batches: Any = SimpleNamespace(_config=config)
    assert StepBatches._teaches(batches, group, config.stages[0].objective) is teaches
