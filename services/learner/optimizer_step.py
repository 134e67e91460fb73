"""One optimizer step: a mini-batch's passes, the objective's loss on each, the gradient and the update."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from rlad_core.config import RunConfig
from rlad_core.objectives import Objective, Statistic
from rlad_core.objectives.ages import by_age
from services.learner.asked_objective import loss_of
from services.learner.divergence import DivergedError
from services.learner.passes import Passes
from services.learner.sharding import keeps_gradients_local, synchronise
from services.learner.statistics import Statistics, add, distances
from services.learner.training_rows import TrainingRows


class OptimizerStep:
    """Of one rank. All ranks take the same steps.

    Args:
        module: the policy, sharded.
        optimizer: of its parameters.
        passes: through it.
        config: the run.
        device: of this rank.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        passes: Passes,
        config: RunConfig,
        device: torch.device,
    ) -> None:
        self._module = module
        self._optimizer = optimizer
        self._passes = passes
        self._learner = config.learner
        self._may_be_stale = config.rollout.max_staleness > 0
        self._device = device
        self._world = dist.get_world_size()
        self._local = keeps_gradients_local(module, config.learner)
        self._copies = (config.learner.fsdp_size or self._world) != self._world

    def take(
        self,
        rows: TrainingRows,
        mini_batch: int,
        objective: Objective,
        stage_step: int,
        *,
        entropy_weight: float,
        with_entropy: bool,
        has_old: bool,
        keeps_old: bool,
    ) -> Statistics | None:
        """What it tells of this rank's rows; None where the policy is already too far from the old one, and
        stays as it is.

        Args:
            entropy_weight: what a token's entropy counts in the loss beside the objective's.
            with_entropy: it is measured.
            has_old: the batch has more than one update, so the policy leaves the old one.
            keeps_old: the policy is the old one, and the rows are trained on again.

        Raises:
            DivergedError: the gradient is not finite; nothing was updated.
        """
        statistics: Statistics = {}
        loss_sum = 0.0
        members = rows.of_mini_batches([mini_batch])
        for each in self._passes.through(rows, members, objective, stage_step, with_entropy=with_entropy):
            synchronise(self._fsdp, last=each.is_last, local=self._local, copies=self._copies)
            if not each.members.size:
                (each.logprobs.sum() * 0.0).backward()
                continue
            if keeps_old and not rows.old.has(each.members):
                self._passes.note_old(each, objective, stage_step)
            batch = each.batch
            output = loss_of(objective, batch, stage_step)
            loss = output.loss
            if entropy_weight and batch.entropy is not None:
                loss = loss - entropy_weight * (batch.entropy * batch.weights).sum()
            # FSDP averages the ranks' gradients, and a loss of ours is their sum.
            (loss * self._world).backward()
            loss_sum += loss.item()
            add(statistics, {**distances(batch, has_old=has_old), **output.statistics})
            if self._may_be_stale and rows.counted_versions is not None:
                cap = getattr(objective, "mismatch_cap", None)
                add(statistics, by_age(batch, rows.counted_versions, cap))
        if self._is_too_far(statistics):
            self._optimizer.zero_grad(set_to_none=True)
            return None
        # Each rank holds its part of the sum, and the count is over all ranks one.
        statistics["loss"] = Statistic(loss_sum, 1 / self._world)
        statistics["gradient_norm"] = Statistic(self._clipped(mini_batch) / self._world, 1 / self._world)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return statistics

    def _clipped(self, mini_batch: int) -> float:
        """Clip the gradient as the recipe says; its norm before that."""
        clip = self._learner.grad_clip
        norm = torch.nn.utils.clip_grad_norm_(self._module.parameters(), math.inf if clip is None else clip)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not torch.isfinite(norm):
            raise DivergedError(
                f"the gradient's norm is {norm.item()} in mini-batch {mini_batch}: nothing was updated. "
                "Look at the last rows of metrics.jsonl; a lower learner.lr may help, and ratio_cap in an "
                "objective that has the teacher in its ratio without a clamp"
            )
        return norm.item()

    def _is_too_far(self, statistics: Statistics) -> bool:
        """Whether the policy has left the old one by more than the recipe allows; all ranks agree."""
        if (most := self._learner.max_kl) is None:
            return False
        mine = statistics.get("kl_to_old", Statistic(0.0, 0.0))
        shared = torch.tensor([float(mine.total), float(mine.count)], device=self._device)
        dist.all_reduce(shared)
        return bool(shared[1] > 0) and float(shared[0] / shared[1]) > most

    @property
    def _fsdp(self) -> FSDPModule:
        assert isinstance(self._module, FSDPModule)
        return self._module
