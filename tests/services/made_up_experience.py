"""Experience made up by chance, and ranks that are trained on it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import join_ranks, start_ranks

from rlad_core import schema
from rlad_core.assembly import ShardPlan, plan_shards
from rlad_core.config import RunConfig
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.weights.push import weight_push

GROUPS, GROUP_SIZE = 6, 3
_VOCABULARY = 200


def small_config(folder: Path, **changes: Any) -> RunConfig:
    """A recipe for the model in `folder`, with changes as `section__field`, or another `objective`."""
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


def planned(config: RunConfig, table: pa.Table, groups: Sequence[str], ranks: int) -> list[ShardPlan]:
    """What each rank of the recipe's first stage gets of the rows."""
    return plan_shards(
        table,
        groups=groups,
        mini_batches=config.learner.updates_per_batch,
        ranks=ranks,
        token_weights=config.stages[0].objective.token_weights,
    )


def experience() -> tuple[pa.Table, list[str]]:
    """A step's rows, and the group of each: only their consistency matters."""
    generator = np.random.default_rng(0)
    rows = []
    for group in range(GROUPS):
        prompt = generator.integers(_VOCABULARY, size=generator.integers(2, 9)).tolist()
        for sample in range(GROUP_SIZE):
            length = int(generator.integers(1, 20))
            rows.append(
                {
                    "group_id": f"p{group}#0",
                    "sample_index": sample,
                    "prompt_id": f"p{group}",
                    "prompt_token_ids": prompt,
                    "response_token_ids": generator.integers(_VOCABULARY, size=length).tolist(),
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


def train_rank(
    rank: int, ranks: int, folder: str, out: str, changes: dict[str, Any], steps: int, resume: bool
) -> None:
    """One rank: `steps` steps on the same experience; rank 0 writes weights and statistics."""
    join_ranks(rank, ranks, out, f"meeting-{ranks}-{steps}-{resume}")
    config = small_config(Path(folder), **changes)
    policy = TrainedPolicy(config, folder, torch.device("cpu"))
    if resume:
        policy.load(Path(out) / "checkpoint")
    table, groups = experience()
    objective = config.stages[0].objective
    plans = planned(config, table, groups, ranks)
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


def train_ranks(
    folder: Path, out: Path, *, ranks: int = 1, steps: int = 2, resume: bool = False, **changes: Any
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The weights after `steps` steps on so many ranks, and the statistics of the last one."""
    out.mkdir(exist_ok=True)
    start_ranks(train_rank, ranks, str(folder), str(out), changes, steps, resume)
    return torch.load(out / "state.pt"), json.loads((out / "statistics.json").read_text())
