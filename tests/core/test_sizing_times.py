"""What `rlad plan` says of the seconds of a step, by hand, and which split of GPUs it finds best."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlad_core.config import RunConfig, load
from rlad_core.sizing import (
    GPUS,
    StageTime,
    balanced,
    evaluation_seconds,
    step_seconds,
    times,
    works_ahead,
)
from services.run.plan_sizes import sizes


def test_a_step_s_operations_by_hand() -> None:
    """0.6B, 256 x 8 responses of 2,048 tokens behind prompts of at most 1,024."""
    config = load(Path("qwen3-0.6b-kk-trrd"))
    found = {each.stage: each for each in times(config, config.stages[0], GPUS["H100"])}
    assert found["rollout"].tokens == 2048 * 2048
    assert found["teacher"].tokens == 256 * (1024 + 8 * 2048)
    assert found["update"].tokens == 2048 * 3072
    # 596M weights; attention of 28 layers x 2,048 at 1,536 tokens before each; three passes and one again.
    forward = 2 * 595.8e6 + 4 * 28 * 2048 * 1536
    assert found["update"].flops == pytest.approx(4 * forward * 2048 * 3072, rel=1e-3)
    assert found["update"].seconds == pytest.approx(found["update"].flops / (3 * 989e12 * 0.25))
    assert step_seconds(list(found.values())) == found["rollout"].seconds + found["update"].seconds


@pytest.mark.parametrize(
    ("kind", "updates", "passes"),
    [("opd", 1, 4), ("opd", 2, 4.5), ("opd", 4, 4.75), ("top_d", 1, 5), ("top_d", 2, 5)],
)
def test_the_old_policys_pass_is_timed_where_there_is_one(kind: str, updates: int, passes: float) -> None:
    """The first mini-batch's own pass is that of the old policy, unless advantages are made of all before."""
    changes = [f"stages=[{{steps: 9, objective: {{kind: {kind}}}}}]", f"learner.updates_per_batch={updates}"]
    config = load(Path("qwen3-0.6b-kk-trrd"), changes)
    [update] = [each for each in times(config, config.stages[0], GPUS["H100"]) if each.stage == "update"]
    forward = 2 * 595.8e6 + 4 * 28 * 2048 * 1536
    assert update.flops == pytest.approx(passes * forward * 2048 * 3072, rel=1e-3)


@pytest.mark.parametrize(
    ("how", "large_from", "passes"),
    [("off", 0, 3), ("selective", 0, 3), ("full", 0, 4), ("auto", 0, 4), ("auto", 10**12, 3)],
)
def test_layers_that_are_computed_again_are_timed_where_they_are(
    how: str, large_from: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Selective keeps products of matrices and attention; auto is full for large models alone."""
    monkeypatch.setattr("rlad_core.large.LARGE_FROM_PARAMETERS", large_from)
    config = load(Path("qwen3-0.6b-kk-trrd"), [f"learner.activation_checkpointing={how}"])
    [update] = [each for each in times(config, config.stages[0], GPUS["H100"]) if each.stage == "update"]
    forward = 2 * 595.8e6 + 4 * 28 * 2048 * 1536
    assert update.flops == pytest.approx(passes * forward * 2048 * 3072, rel=1e-3)


def test_a_teacher_that_is_asked_for_hidden_states_passes_all_responses_again() -> None:
    """Beside the update, which it holds up where it takes longer."""
    recipe, gpu = Path("qwen3-1.7b-math-trrd-8gpu"), GPUS["H100"]
    anchor = ["stages.0.objective.anchor=normalised", "stages.0.objective.teacher_clamp=null"]

    def planned(source: str, *more: str) -> dict[str, StageTime]:
        config = load(recipe, [*anchor, f"stages.0.objective.source={source}", *more])
        return {each.stage: each for each in times(config, config.stages[0], gpu)}

    likely, hidden = planned("top_k"), planned("hidden")
    assert likely["teacher"].beside_update == 0
    # Each response with its prompt, where groups share one before.
    assert hidden["teacher"].beside_update > hidden["teacher"].seconds == likely["teacher"].seconds
    before = max(hidden["rollout"].seconds, hidden["teacher"].seconds)
    again = max(hidden["update"].seconds, hidden["teacher"].beside_update)
    assert step_seconds(list(hidden.values())) == before + again
    larger = planned("hidden", "teacher.model=Qwen/Qwen3-32B")
    assert larger["teacher"].beside_update > larger["update"].seconds
    assert step_seconds(list(larger.values())) == larger["teacher"].seconds + larger["teacher"].beside_update


def test_sampled_ahead_a_step_takes_its_longest_stage() -> None:
    """And GPUs are split so that none of the three is long; roles that share one take each other's time."""
    gpu, ahead = GPUS["H200"], ["rollout.max_staleness=1"]

    def planned(*more: str, recipe: str = "qwen3-1.7b-kk-trrd") -> tuple[RunConfig, list[StageTime]]:
        config = load(Path(recipe), [*ahead, *more])
        return config, times(config, config.stages[0], gpu)

    config, found = planned()
    assert works_ahead(config)
    assert step_seconds(found, ahead=True) == max(each.seconds for each in found) < step_seconds(found)
    splits = [(rollout, teacher) for rollout in range(1, 7) for teacher in range(1, 8 - rollout)]
    each_split = [
        planned(f"rollout.num_replicas={rollout}", f"teacher.num_replicas={teacher}",
                f"learner.workers={8 - rollout - teacher}")[1]
        for rollout, teacher in splits
    ]  # fmt: skip
    best = min(max(each.seconds for each in split) for split in each_split)
    uneven, _ = planned("rollout.num_replicas=1", "learner.workers=5")
    assert step_seconds(balanced(uneven, uneven.stages[0], gpu), ahead=True) == best
    hidden = [StageTime("teacher", 1, 1, 1, 3.0, beside_update=2.0), StageTime("update", 1, 1, 1, 4.0)]
    assert step_seconds(hidden, ahead=True) == 5  # of each step it has both to do
    shared, _ = planned("rollout.sleep=false", "teacher.sleep=false", recipe="qwen3-0.6b-kk-trrd-1gpu")
    assert not works_ahead(shared)
    assert not works_ahead(load(Path("qwen3-1.7b-kk-trrd")))


def test_an_evaluation_is_timed_as_a_step_of_its_problems_and_answers() -> None:
    config, gpu = (
        load(Path("qwen3-0.6b-kk-trrd"), ["evaluation.samples=8", "evaluation.every=0"]),
        GPUS["H100"],
    )
    rollout = times(config, config.stages[0], gpu)[0]
    assert evaluation_seconds(config, config.rollout.prompts_per_step, gpu) == rollout.seconds
    assert evaluation_seconds(load(Path("kk-tiny-trrd")), 500, gpu) is None


def test_the_split_is_the_best_one() -> None:
    """Of all splits of 8 GPUs, each timed as a recipe of its own: responses come in waves, not in shares."""
    config, gpu = load(Path("qwen3-1.7b-kk-trrd"), ["rollout.max_num_seqs=300"]), GPUS["H200"]

    def step(rollout: int, teacher: int) -> float:
        split = (f"rollout.num_replicas={rollout}", f"teacher.num_replicas={teacher}")
        learner = f"learner.workers={8 - rollout - teacher}"
        other = load(Path("qwen3-1.7b-kk-trrd"), ["rollout.max_num_seqs=300", *split, learner])
        return step_seconds(times(other, other.stages[0], gpu))

    best = min(step(rollout, teacher) for rollout in range(1, 7) for teacher in range(1, 8 - rollout))
    split = balanced(config, config.stages[0], gpu)
    assert sum(each.gpus for each in split) == 8
    assert step_seconds(split) == best
    plain, uneven = (
        load(Path("qwen3-1.7b-kk-trrd"), given)
        for given in ([], ["rollout.num_replicas=5", "learner.workers=1"])
    )
    assert balanced(uneven, uneven.stages[0], gpu) == balanced(plain, plain.stages[0], gpu)
    two = load(Path("qwen3-1.7b-kk-trrd"), ["rollout.tensor_parallel_size=2", "rollout.num_gpus=2"])
    assert balanced(two, two.stages[0], gpu)[0].gpus % 2 == 0
    shared = load(Path("qwen3-0.6b-kk-trrd-1gpu"))
    assert balanced(shared, shared.stages[0], gpu) == times(shared, shared.stages[0], gpu)


def test_replicas_that_share_a_gpu_stay_however_many_there_are() -> None:
    """Two halves of a GPU are no GPU that could be given to another role."""
    halves = ["teacher.num_gpus=0.5", "teacher.num_replicas=2", "rollout.max_staleness=1"]
    config, gpu = load(Path("qwen3-0.6b-kk-trrd"), [*halves, "rollout.num_replicas=3"]), GPUS["H100"]
    found = times(config, config.stages[0], gpu)
    assert [each.gpus for each in found if each.stage == "teacher"] == [1]
    assert balanced(config, config.stages[0], gpu) == found
    [*_, table] = sizes(config, gpu)[0]
    assert list(table.columns[0].cells) == ["rollout", "teacher", "update"]
    assert list(table.columns[-1].cells) == ["3", "-", str(config.learner.workers)]


def test_no_rank_of_the_learner_is_without_a_sequence() -> None:
    """A recipe with more ranks than an update has sequences is refused, however many GPUs there are."""
    small = ["rollout.prompts_per_step=2", "rollout.group_size=4", "learner.updates_per_batch=2"]
    given = [*small, "learner.workers=1", "rollout.num_replicas=20"]
    config, gpu = load(Path("qwen3-1.7b-kk-trrd"), given), GPUS["H200"]
    split = {each.stage: each for each in balanced(config, config.stages[0], gpu)}
    load(Path("qwen3-1.7b-kk-trrd"), [*given, f"learner.workers={split['update'].gpus:g}"])
    assert sum(each.gpus for each in split.values()) == 21 + config.teacher_devices[1]


def test_the_split_has_whole_copies_of_the_learner() -> None:
    given = ["learner.workers=6", "learner.fsdp_size=3", "rollout.num_replicas=1", "teacher.num_replicas=1"]
    config, gpu = load(Path("qwen3-1.7b-kk-trrd"), given), GPUS["H200"]
    split = {each.stage: each.gpus for each in balanced(config, config.stages[0], gpu)}
    assert sum(split.values()) == 8
    assert split["update"] == 3
