"""A recipe whose teacher is an older version of the policy: what it means, what is refused, what it takes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from schema_tables import joined, prompts, rewards, rollouts
from test_teaching import PUZZLES, REMOTE, SERVED, TRRD, recipe, refusals

from rlad_core import schema
from rlad_core.config import ConfigError, PolicyTeacher, load
from rlad_core.config.machine import _checkpoint_bytes
from rlad_core.sizing import GPUS, shape_of, times
from rlad_core.sizing.learner import learner_need
from rlad_core.timeline import StageSpan, added_by_own_teacher, stage_table

OWN = {"kind": "policy"}
GRPO = {"kind": "grpo"}


def test_nothing_is_deployed_or_asked_for_it() -> None:
    config = recipe(task=PUZZLES, teacher={**OWN, "every": 10})
    assert (config.scorers, config.served_teachers, config.scoring_services) == ({}, {}, {})
    assert config.policy_teacher is not None
    assert config.policy_teacher.where == "the policy, renewed every 10 steps"
    assert config.teacher_devices == ("core", 1)
    assert recipe(task=PUZZLES, teachers=[OWN]).policy_teacher is not None
    assert recipe(task=PUZZLES, teacher=SERVED).policy_teacher is None
    unasked = recipe(task=PUZZLES, teacher={**OWN, "prefix": "{solution}"}, objective=GRPO)
    # Kept all the same: the run may be resumed with a stage that asks it.
    assert unasked.policy_teacher is not None
    assert (unasked.learner_reads, unasked.teacher_devices) == (512, ("core", 0))


@pytest.mark.parametrize(("every", "renewed"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (None, [])])
def test_when_it_is_renewed(every: int | None, renewed: list[int]) -> None:
    teacher = PolicyTeacher(kind="policy", every=every)
    assert [step for step in range(7) if teacher.is_renewed(step)] == renewed


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another one beside it": (
        {"teachers": [{**OWN, "weight": 1}, {**REMOTE, "weight": 1}]},
        "teachers.0.kind ('policy'): has no other teacher beside it",
    ),
    "of one task": ({"teacher": {**OWN, "tasks": ["knights_knaves"]}}, "it teaches every task"),
    "likely tokens": (
        {"teacher": OWN, "objective": {"kind": "trrd", "anchor": "normalised"}},
        "tells the log-probs of the response's tokens alone, and stages.0.objective",
    ),
    "the policy's likely tokens": (
        {"teacher": OWN, "objective": {"kind": "gkd", "top_k": 8, "top_of": "policy"}},
        "tells the log-probs of the response's tokens alone",
    ),
    "hidden states": (
        {"teacher": OWN, "objective": {"kind": "trrd", "anchor": "normalised", "source": "hidden"}},
        "tells the log-probs of the response's tokens alone",
    ),
    "demonstrations": (
        {"teacher": OWN, "objective": {"kind": "sft", "source": "teacher"}},
        "one of this kind is only asked to score. Write kind: serve",
    ),
    "settings of a service": ({"teacher": {**OWN, "verify_one_in": 7}}, "its scores come from no service"),
    "a reference": (
        {"teacher": SERVED, "reference": OWN, "objective": {"kind": "trrd", "reference_kl": 0.1}},
        "reference.kind ('policy'): is a teacher's",
    ),
    "never": ({"teacher": {**OWN, "every": 0}}, "teacher.every"),
    "a small budget": (
        {"teacher": {**OWN, "prefix": "{solution}"}, "learner": {"tokens_per_micro_batch": 600}},
        "policy.max_length 512 and teacher.prefix_tokens 512) would not fit. Write 1024",
    ),
    "a small budget, in a list": (
        {"teachers": [{**OWN, "prefix": "{solution}"}], "learner": {"tokens_per_micro_batch": 600}},
        "policy.max_length 512 and teachers.0.prefix_tokens 512) would not fit. Write 1024",
    ),
    "signs of rounding": (
        {
            "teacher": {**OWN, "every": 5},
            "stages": [
                {"steps": 9, "objective": TRRD, "until": {"disagreement": 0.2}},
                {"steps": 1, "objective": GRPO},
            ],
        },
        "where it is renewed, teacher is the policy itself, and rounding decides the signs",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str) -> None:
    sections, said = REFUSED[name]
    found = refusals(task=PUZZLES, **sections)
    assert any(said in each for each in found), found


def test_what_it_reads_goes_with_the_experience() -> None:
    table = rollouts()
    ids = schema.sequence_ids(table).to_pylist()
    names = sorted(set(table.column("prompt_id").to_pylist()))
    read = {name: list(range(number, 2 * number + 3)) for number, name in enumerate(names)}
    found = schema.join_experience(
        table,
        prompts=prompts(names),
        rewards=rewards(ids),
        advantages=dict.fromkeys(ids, 0.0),
        teacher_prompts=read,
    )
    schema.validate(found, schema.EXPERIENCE)
    wanted = [read[name] for name in found.column("prompt_id").to_pylist()]
    assert found.column("teacher_prompt_token_ids").to_pylist() == wanted
    assert joined(table).column("teacher_prompt_token_ids").null_count == table.num_rows
    some = pa.array([[1], None] * table.num_rows, found.schema.field("teacher_prompt_token_ids").type)
    place = found.column_names.index("teacher_prompt_token_ids")
    mixed = found.set_column(place, "teacher_prompt_token_ids", some.slice(0, table.num_rows))
    with pytest.raises(schema.SchemaError, match="null in some rows and not in others"):
        schema.validate(mixed, schema.EXPERIENCE)


@pytest.mark.parametrize("more", [[], ["learner.lora={rank: 2, alpha: 4}"]])
def test_its_weights_are_counted(more: list[str]) -> None:
    shape = shape_of("Qwen/Qwen3-0.6B")
    assert shape is not None
    with_it, without = (
        learner_need(load(Path("qwen3-0.6b-kk-trrd"), ["learner.workers=2", *more, *teacher]), shape)
        for teacher in (["teacher={kind: policy}"], [])
    )
    assert with_it.parts.keys() - without.parts.keys() == {"the older policy"}
    trained = without.parts["optimizer"] / 8
    assert with_it.parts["the older policy"] == 4 * trained
    saved = "a checkpoint's copy"
    assert with_it.host[saved] - without.host[saved] == pytest.approx(4 * trained)


def _time(*settings: str) -> dict[str, float]:
    config = load(Path("qwen3-0.6b-kk-trrd"), [*settings])
    return {each.stage: each.flops for each in times(config, config.stages[0], GPUS["H200"])}


def test_its_pass_is_a_part_of_the_update() -> None:
    shape = shape_of("Qwen/Qwen3-0.6B")
    assert shape is not None
    config = load(Path("qwen3-0.6b-kk-trrd"))
    served, own = _time(), _time("teacher={kind: policy}")
    assert "teacher" in served
    assert "teacher" not in own
    length = min(config.policy.prompt_limit, config.policy.max_length - config.rollout.max_response_length)
    length += config.rollout.max_response_length
    pairs = 4 * shape.layers * shape.heads * shape.head * length / 2
    more = config.responses_per_step * length * (2 * shape.parameters + pairs)
    assert own["update"] - served["update"] == pytest.approx(more)
    with_prefix = _time("teacher={kind: policy, prefix: '{solution}'}")
    assert with_prefix["update"] > own["update"]
    reference = "reference={model: Qwen/Qwen3-0.6B, num_gpus: 1}"
    assert "teacher" not in _time("teacher={kind: policy}", reference, "stages.0.objective.reference_kl=0.1")


def test_a_checkpoint_on_disk_and_the_prefix_of_a_model_with_a_bound_are_counted(tmp_path: Path) -> None:
    served, own = (load("kk-tiny-trrd", more) for more in ([], ["teacher={kind: policy}"]))
    assert _checkpoint_bytes(own) * 3 == _checkpoint_bytes(served) * 4
    settings = {
        "model_type": "phi3",
        "architectures": ["Phi3ForCausalLM"],
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    wide = ["policy.max_length=4096", f"policy.model={tmp_path}", "learner.tokens_per_micro_batch=16384"]
    for prefix, refused in ((None, False), ("{solution}", True)):
        teacher = f"teacher={{kind: policy, prefix: '{prefix}'}}" if prefix else "teacher={kind: policy}"
        with pytest.raises(ConfigError) as caught:  # there are no weights either
            load("kk-tiny-trrd", [*wide, teacher])
        assert any("longrope" in str(each) for each in caught.value.problems) is refused


def test_what_it_adds_while_groups_are_sampled_ahead() -> None:
    spans = [
        StageSpan("rollout", 0, 10),
        StageSpan("teacher", 0, 2),
        StageSpan("update", 2, 9),
    ]
    table = stage_table(spans, 0, 10)
    assert added_by_own_teacher(table, waited=0.5) == 1.5
    assert added_by_own_teacher(table, waited=4.0) == 0  # the learner would have waited instead
