"""Training on recorded steps: the learner alone, without rollouts, teacher, verifier or Ray.

Each rank is a process on this machine. They go through the files in order, and from the first again where the
recipe has more steps than there are files.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rlad_core import recorded
from rlad_core.config import RunConfig
from rlad_core.config.evaluation_recipe import arrived
from rlad_core.sizing import pair_cost_of
from services.base import telemetry
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.report.journal import Journal


def replay(config: RunConfig, policy_folder: str, files: Sequence[Path], run_dir: Path) -> None:
    """Carry out all steps of a recipe on recorded experience, record them, and export the policy.

    Args:
        config: its learner, policy and stages.
        policy_folder: where the policy starts from.
        files: of recorded steps.
        run_dir: of this run; written to.

    Raises:
        torch.multiprocessing.ProcessRaisedException: a rank failed; holds what it raised.
    """
    meeting = run_dir / "ranks"
    meeting.unlink(missing_ok=True)
    arguments = (
        config.model_dump(mode="json"),
        config.code,
        policy_folder,
        [str(file) for file in files],
        str(run_dir),
        f"file://{meeting.absolute()}",
    )
    try:
        mp.start_processes(_rank, args=arguments, nprocs=config.learner.workers, start_method="spawn")
    finally:
        meeting.unlink(missing_ok=True)


def _rank(
    rank: int,
    values: dict[str, Any],
    code: dict[str, str],
    policy_folder: str,
    files: Sequence[str],
    run_dir: str,
    meeting: str,
) -> None:
    config = arrived(RunConfig, values, code)
    telemetry.name_run(config.name)
    learner = config.learner
    torch.set_num_threads(learner.threads)
    on_gpu = learner.num_gpus > 0
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=meeting, rank=rank, world_size=learner.workers
    )
    try:
        policy = TrainedPolicy(config, policy_folder, device)
        journal = Journal(run_dir) if rank == 0 else None
        if journal is not None:
            journal.begin(0)
        pair_cost = pair_cost_of(policy_folder)
        for step in range(config.total_steps):
            row, groups = _step(config, policy, Path(files[step % len(files)]), step, rank, pair_cost)
            if journal is not None:
                journal.step(row, groups, [])
        policy.export(Path(run_dir) / "export")
        if journal is not None:
            journal.close()
    finally:
        dist.destroy_process_group()


def _step(
    config: RunConfig, policy: TrainedPolicy, file: Path, step: int, rank: int, pair_cost: float
) -> tuple[dict[str, Any], list[str]]:
    """One step on one file: its row of metrics.jsonl, and the groups that it trained on."""
    started = time.time()
    stage, found = config.position(step).stage, recorded.read(file)
    found.check(stage.objective)
    plan = found.plan(
        stage.objective,
        mini_batches=config.learner.updates_per_batch,
        ranks=config.learner.workers,
        pair_cost=pair_cost,
        masks=config.rollout.truncated == "mask",
    )[rank]
    rows = TrainingRows(found.for_objective(stage.objective).take(plan.rows), plan, found.end_tokens)
    statistics = policy.train_on(rows, stage.objective, step)
    numbers = found.numbers() | {name: each.mean for name, each in statistics.items()}
    seconds = {"step": time.time() - started}
    row = {"step": step, "version": step + 1, "stage": stage.label, "experience": file.name}
    return {**row, **numbers, "seconds": seconds}, sorted(set(found.groups))
