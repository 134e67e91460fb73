"""The learner's optimizer steps with real FSDP2 on gloo: equal however a batch is split; saved, restored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from ranks import join_ranks, start_ranks
from transformers import AutoModelForCausalLM

from rlad_core import schema
from rlad_core.assembly import plan_shards
from rlad_core.config import RunConfig
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.run.initial_policy import write_initial_policy
from services.weights.push import weight_push

pytestmark = pytest.mark.timeout(900)

GROUPS, GROUP_SIZE = 6, 3


def _config(folder: Path, **changes: Any) -> RunConfig:
    recipe: dict[str, Any] = {
        "name": "test",
        "policy": {"model": str(folder), "max_length": 64},
        "teacher": {"model": str(folder)},
        "task": {
            "name": "knights_knaves",
            "train": {"people": [2]},
            "evaluation": {"people": [2]},
        },
        "rollout": {"prompts_per_step": GROUPS, "group_size": GROUP_SIZE, "max_response_length": 32},
        "stages": [{"steps": 4, "objective": {"kind": "trrd"}}],
        "learner": {"lr": 1e-2, "tokens_per_micro_batch": 4096, "weight_decay": 0.01},
        "weights": {},
    }
    if objective := changes.pop("objective", None):
        recipe["stages"][0]["objective"] = objective
    for path, value in changes.items():
        section, _, field = path.partition("__")
        recipe[section][field] = value
    return RunConfig.model_validate(recipe)


def _experience(vocabulary: int) -> tuple[pa.Table, list[str]]:
    """Made-up experience: only its consistency matters here."""
    generator = np.random.default_rng(0)
    rows = []
    for group in range(GROUPS):
        prompt = generator.integers(vocabulary, size=generator.integers(2, 9)).tolist()
        for sample in range(GROUP_SIZE):
            length = int(generator.integers(1, 20))
            rows.append(
                {
                    "group_id": f"p{group}#0",
                    "sample_index": sample,
                    "prompt_id": f"p{group}",
                    "prompt_token_ids": prompt,
                    "response_token_ids": generator.integers(vocabulary, size=length).tolist(),
                    "rollout_logprobs": (-5.5 + 0.1 * generator.standard_normal(length)).tolist(),
                    "policy_versions": [0] * length,
                    "finish_reason": "stop",
                    "response": "text",
                    "sequence_id": f"p{group}#0/{sample}",
                    "task": "knights_knaves",
                    "subset": "2_people",
                    "reward": float(sample),
                    "reward_parts": {"answer": float(sample)},
                    "correct": sample == 2,
                    "verdict": "",
                    "advantage": float(sample - 1),
                    "teacher_logprobs": (-5.5 + 0.5 * generator.standard_normal(length)).tolist(),
                }
            )
    table = schema.build(schema.EXPERIENCE, rows, tokenizer_fingerprint="sha256:test")
    return table, table.column("group_id").to_pylist()


def _train(
    rank: int, ranks: int, folder: str, out: str, changes: dict[str, Any], steps: int, resume: bool
) -> None:
    """One rank: `steps` steps on the same experience; rank 0 writes weights and statistics."""
    join_ranks(rank, ranks, out, f"meeting-{ranks}-{steps}-{resume}")
    config = _config(Path(folder), **changes)
    policy = TrainedPolicy(config, folder, torch.device("cpu"))
    if resume:
        policy.load(Path(out) / "checkpoint")
    table, groups = _experience(200)
    objective = config.stages[0].objective
    plans = plan_shards(
        table,
        groups=groups,
        mini_batches=config.learner.updates_per_batch,
        ranks=ranks,
        token_weights=objective.token_weights,
    )
    statistics: dict[str, Any] = {}
    for step in range(2 if resume else 0, steps):
        rows = TrainingRows(table.take(plans[rank].rows), plans[rank])
        statistics = policy.train_on(rows, objective, step)
    state = {name: tensor.clone() for name, tensor in policy.whole_weights(torch.float32)}
    if not resume:
        Path(out, "checkpoint").mkdir(exist_ok=True)
        dcp.save(policy.state(), checkpoint_id=Path(out) / "checkpoint")
    policy.export(Path(out) / "export")
    published = {name: tensor.clone() for name, tensor in policy.published_weights(torch.float32)}
    nobody: Any = None
    if (push := weight_push(config, policy.whole_weights(torch.bfloat16), nobody)) is not None:
        state = {name: tensor.clone() for name, tensor in push._source}  # a collective call
        assert [(meta.name, meta.shape) for meta in push._source.metadata()] == [
            (name, tuple(tensor.shape)) for name, tensor in state.items()
        ]
    if rank == 0:
        torch.save(state, f"{out}/state.pt")
        torch.save(published, f"{out}/published.pt")
        Path(out, "statistics.json").write_text(json.dumps({k: s.mean for k, s in statistics.items()}))
    dist.destroy_process_group()


def _run(
    folder: Path, out: Path, *, ranks: int = 1, steps: int = 2, resume: bool = False, **changes: Any
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    out.mkdir(exist_ok=True)
    start_ranks(_train, ranks, str(folder), str(out), changes, steps, resume)
    return torch.load(out / "state.pt"), json.loads((out / "statistics.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


@pytest.fixture(scope="module")
def whole(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Two steps on one rank in one micro-batch."""
    return _run(folder, tmp_path_factory.mktemp("whole"))


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
    state, statistics = _run(folder, tmp_path / "split", **split)
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
    _, statistics = _run(folder, tmp_path / "three", steps=1, learner__updates_per_batch=3)
    # From the second mini-batch on the policy has moved away from pi_old.
    alone, single = _run(folder, tmp_path / "one", steps=1)
    assert alone
    assert statistics["ratio"] != pytest.approx(single["ratio"], rel=1e-4)


def _count_passes(rank: int, ranks: int, folder: str, out: str, changes: dict[str, Any]) -> None:
    """How often a step goes through the model, and what it says of the distance to the old policy."""
    join_ranks(rank, ranks, out, "meeting-passes")
    config = _config(Path(folder), **changes)
    policy = TrainedPolicy(config, folder, torch.device("cpu"))
    passes: list[int] = []
    policy.module.register_forward_hook(lambda *_: passes.append(1))
    table, groups = _experience(200)
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
    straight, _ = _run(folder, tmp_path / "straight", steps=4)
    out = tmp_path / "halved"
    before, _ = _run(folder, out, steps=2)
    resumed, _ = _run(folder, out, steps=4, resume=True)
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-6, rtol=0, msg=name)
    # Also on other ranks, in other micro-batches and with longer limits, weights and moments of AdamW go on.
    changes = {"learner__workers": 2, "learner__tokens_per_micro_batch": 64, "policy__max_length": 64}
    elsewhere, _ = _run(folder, out, ranks=2, steps=4, resume=True, **changes)
    for name, tensor in straight.items():
        assert (elsewhere[name] - tensor).norm() < 1e-2 * (tensor - before[name]).norm(), name


def test_a_push_sends_every_weight_whole_under_its_name_in_the_model(
    folder: Path, whole: tuple[dict[str, torch.Tensor], dict[str, float]], tmp_path: Path
) -> None:
    gpus = {"rollout__num_gpus": 1, "learner__num_gpus": 1}  # the recipe's; the ranks compute on CPUs
    sent, _ = _run(folder, tmp_path / "sent", ranks=2, learner__workers=2, weights__transfer="nccl", **gpus)
    assert {name: (each.shape, each.dtype) for name, each in sent.items()} == {
        name: (each.shape, torch.bfloat16) for name, each in whole[0].items()
    }


def test_the_export_holds_the_trained_weights(folder: Path, tmp_path: Path) -> None:
    state, _ = _run(folder, tmp_path / "export", steps=1)
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
        _run(folder, tmp_path / "out", objective={"kind": f"{place}:Mine"})
