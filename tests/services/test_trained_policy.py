"""The learner's optimizer steps with real FSDP2 on gloo: equal however a batch is split; saved, restored."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from made_up_experience import experience, small_config, train_ranks
from ranks import join_ranks, start_ranks
from transformers import AutoModelForCausalLM

from rlad_core.assembly import plan_shards
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.run.initial_policy import write_initial_policy

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


@pytest.fixture(scope="module")
def whole(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Two steps on one rank in one micro-batch."""
    return train_ranks(folder, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "split",
    [{"learner__tokens_per_micro_batch": 64}, {"ranks": 2, "learner__workers": 2}],
    ids=["small micro-batches", "two ranks"],
)
def test_splits_give_the_same_policy(
    split: dict[str, Any],
    folder: Path,
    whole: tuple[dict[str, torch.Tensor], dict[str, float]],
    tmp_path: Path,
) -> None:
    state, statistics = train_ranks(folder, tmp_path / "split", **split)
    expected_state, expected = whole
    # The mean over ranks and micro-batches of each statistic is that of the whole batch.
    assert statistics == pytest.approx(expected, rel=1e-4, abs=1e-6)
    start = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    for name, tensor in expected_state.items():
        # AdamW divides by the gradient's size: weights with a gradient near zero show float32 rounding,
        # the move as a whole does not.
        assert (state[name] - tensor).norm() < 1e-3 * (tensor - start[name]).norm(), name


def test_the_first_step_moves_by_the_learning_rate(
    folder: Path, whole: tuple[dict[str, torch.Tensor], dict[str, float]]
) -> None:
    start = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    moved = [float((tensor - start[name]).abs().max()) for name, tensor in whole[0].items()]
    # AdamW moves a weight by at most about the learning rate in each of its first steps.
    assert min(moved) > 1e-3
    assert max(moved) < 3e-2


def test_more_updates_a_batch_use_the_old_policy(folder: Path, tmp_path: Path) -> None:
    _, statistics = train_ranks(folder, tmp_path / "three", steps=1, learner__updates_per_batch=3)
    # From the second mini-batch on the policy has moved away from pi_old.
    alone, single = train_ranks(folder, tmp_path / "one", steps=1)
    assert alone
    assert statistics["ratio"] != pytest.approx(single["ratio"], rel=1e-4)


def _count_passes(rank: int, ranks: int, folder: str, out: str, changes: dict[str, Any]) -> None:
    """How often a step goes through the model, and what it says of the distance to the old policy."""
    join_ranks(rank, ranks, out, "meeting-passes")
    config = small_config(Path(folder), **changes)
    policy = TrainedPolicy(config, folder, torch.device("cpu"))
    passes: list[int] = []
    policy.module.register_forward_hook(lambda *_: passes.append(1))
    table, groups = experience()
    objective = config.stages[0].objective
    [plan] = plan_shards(
        table, groups=groups, mini_batches=1, ranks=ranks, token_weights=objective.token_weights
    )
    told = policy.train_on(TrainingRows(table.take(plan.rows), plan), objective, 0)
    Path(out, "passes.json").write_text(
        json.dumps([len(passes), told["updates"].mean, told["kl_to_old"].mean])
    )
    dist.destroy_process_group()


def test_the_old_policys_logprobs_are_those_of_the_first_update(folder: Path, tmp_path: Path) -> None:
    start_ranks(_count_passes, 1, str(folder), str(tmp_path), {"learner__epochs_per_batch": 3})
    passes, updates, distance = json.loads((tmp_path / "passes.json").read_text())
    assert (passes, updates) == (3, 3)  # none before the first
    assert distance > 0


def test_a_restored_policy_continues_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    straight, _ = train_ranks(folder, tmp_path / "straight", steps=4)
    out = tmp_path / "halved"
    before, _ = train_ranks(folder, out, steps=2)
    resumed, _ = train_ranks(folder, out, steps=4, resume=True)
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-6, rtol=0, msg=name)
    # Also on other ranks, in other micro-batches and with longer limits, weights and moments of AdamW go on.
    changes = {"learner__workers": 2, "learner__tokens_per_micro_batch": 64, "policy__max_length": 64}
    elsewhere, _ = train_ranks(folder, out, ranks=2, steps=4, resume=True, **changes)
    for name, tensor in straight.items():
        assert (elsewhere[name] - tensor).norm() < 1e-2 * (tensor - before[name]).norm(), name


def test_a_push_sends_every_weight_whole_under_its_name_in_the_model(
    folder: Path, whole: tuple[dict[str, torch.Tensor], dict[str, float]], tmp_path: Path
) -> None:
    gpus = {"rollout__num_gpus": 1, "learner__num_gpus": 1}  # the recipe's; the ranks compute on CPUs
    sent, _ = train_ranks(
        folder, tmp_path / "sent", ranks=2, learner__workers=2, weights__transfer="nccl", **gpus
    )
    assert {name: (each.shape, each.dtype) for name, each in sent.items()} == {
        name: (each.shape, torch.bfloat16) for name, each in whole[0].items()
    }


def test_the_export_holds_the_trained_weights(folder: Path, tmp_path: Path) -> None:
    state, _ = train_ranks(folder, tmp_path / "export", steps=1)
    exported = AutoModelForCausalLM.from_pretrained(
        tmp_path / "export" / "export", dtype=torch.float32
    ).state_dict()
    for name, tensor in state.items():
        torch.testing.assert_close(exported[name], tensor, atol=0, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("1 / 0", r"failed: ZeroDivisionError: division by zero \(loss.py, line 5\)"),
        ("batch.policy_logprobs.sum()", "failed: TypeError: it returned a Tensor, not ObjectiveOutput"),
        (
            "ObjectiveOutput(batch.policy_logprobs, {})",
            r"failed: ValueError: the loss has shape \(\d+,\); it must be one number, .* \(loss.py, line 5\)",
        ),
        ("ObjectiveOutput(batch.old_logprobs.sum(), {})", "failed: ValueError: its loss has no gradient"),
        (
            'ObjectiveOutput(batch.policy_logprobs.sum(), {"gap": 0.5})',
            "failed: TypeError: its statistics say 'gap' with a float, .* write batch.statistic",
        ),
        (
            'ObjectiveOutput(batch.policy_logprobs.sum(), {"step": batch.statistic(batch.weights)})',
            "failed: ValueError: its statistics say 'step', which metrics.jsonl says of any step",
        ),
    ],
)
def test_what_goes_wrong_in_an_objective_of_ones_own_is_told(
    folder: Path, tmp_path: Path, answer: str, says: str
) -> None:
    place = tmp_path / "loss.py"
    place.write_text(
        "from rlad_core.objectives import Objective, ObjectiveOutput\n\n"
        f"class Mine(Objective):\n    def __call__(self, batch, step):\n        return {answer}\n"
    )
    with pytest.raises(mp.ProcessRaisedException, match=f"the objective Mine {says}"):
        train_ranks(folder, tmp_path / "out", objective={"kind": f"{place}:Mine"})
