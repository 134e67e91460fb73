"""The policy being trained on one learner rank: FSDP2 model, optimizer, the steps of a batch, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from rlad_core.batching import Indices
from rlad_core.config import RunConfig
from rlad_core.objectives import Objective, Statistic
from rlad_core.sizing import pair_cost_of
from services.base.telemetry import span
from services.learner.before_updates import keep_old, teach
from services.learner.checkpoints import random_state, read_into
from services.learner.export import export_policy
from services.learner.learning_rate import learning_rate
from services.learner.making import make_policy
from services.learner.notes import note
from services.learner.older_policy import OlderPolicy
from services.learner.optimizer_step import OptimizerStep
from services.learner.optimizers import forget_steps, make_optimizer, set_learning_rate
from services.learner.passes import Passes
from services.learner.sharding import learner_mesh
from services.learner.statistics import Statistics, add, over_ranks
from services.learner.teacher_states import TeacherStates
from services.learner.training_rows import TrainingRows
from services.learner.whole_weights import AdapterWeights, WholeWeights
from services.weights.gathered import GatheredWeights


class TrainedPolicy:
    """Model and optimizer of one rank. All methods are collective: every rank calls them in the same order.

    Args:
        config: the run.
        model_folder: where the policy starts from, in Hugging Face layout.
        device: of this rank.
        teacher: tells hidden states, where an objective is computed from them.
        tell: is told what whoever watches should know; None: the run's journal.
    """

    def __init__(
        self,
        config: RunConfig,
        model_folder: str,
        device: torch.device,
        teacher: TeacherStates | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._folder = model_folder
        self._device = device
        adaptive = config.learner.adaptive_entropy
        self.entropy_control = None if adaptive is None else adaptive.control
        torch.manual_seed(config.seed)
        learner = config.learner
        mesh = learner_mesh(device.type, dist.get_world_size(), learner.fsdp_size)
        tell = tell or partial(note, config)
        self.module, self.bytes_read = make_policy(config, model_folder, device, mesh, tell)
        self.optimizer = make_optimizer(self.module.parameters(), learner)
        self._passes = Passes(
            self.module, device, learner.tokens_per_micro_batch, pair_cost_of(model_folder), teacher
        )
        self._step = OptimizerStep(self.module, self.optimizer, self._passes, config, device)
        self._older = None if config.policy_teacher is None else OlderPolicy(self.module, device)

    def train_on(
        self,
        rows: TrainingRows,
        objective: Objective,
        step: int,
        early_ends: Mapping[int, int] | None = None,
    ) -> Statistics:
        """One optimizer step for each mini-batch of the step's batch, as often as the recipe says.

        A mini-batch in which no token counts teaches nothing, and AdamW's momentum and weight decay would
        still move the policy: there is no step for it, and ``empty_mini_batches`` says how many there were.

        Args:
            rows: this rank's; the statistics cover those of all ranks.
            step: of the run.
            early_ends: of stages, see `RunConfig.position`.
        """
        learner = self._config.learner
        stage_step = self._config.position(step, early_ends).step
        count, taught = self._mini_batches(rows)
        trained = rows.of_mini_batches(taught)
        self._ask_older(rows, trained, objective, step, stage_step)
        keep_old(self._passes, rows, taught, objective, stage_step)
        several = len(taught) * learner.epochs_per_batch > 1
        statistics: Statistics = {}
        rate = learning_rate(self._config, step, early_ends)
        set_learning_rate(self.optimizer, rate)
        every = learner.entropy_every
        with_entropy = (
            objective.needs_entropy or self.entropy_control is not None or (every > 0 and step % every == 0)
        )
        entropy_weight = 0.0 if self.entropy_control is None else self.entropy_control.weight
        updates = 0
        tokens = int(rows.response_lengths[trained].sum())
        with span("update", items=len(trained), tokens=tokens):
            for number, mini_batch in enumerate(taught * learner.epochs_per_batch):
                told = self._step.take(
                    rows,
                    mini_batch,
                    objective,
                    stage_step,
                    entropy_weight=entropy_weight,
                    with_entropy=with_entropy,
                    has_old=several and rows.needs_old_logprobs,
                    keeps_old=number == 0 and learner.epochs_per_batch > 1 and rows.needs_old_logprobs,
                )
                if told is None:
                    break
                add(statistics, told)
                updates += 1
        statistics = over_ranks(statistics)
        statistics["learning_rate"] = Statistic(rate, 1)
        if count * learner.epochs_per_batch > 1:
            statistics["updates"] = Statistic(updates, 1)
        if count > len(taught):
            statistics["empty_mini_batches"] = Statistic(count - len(taught), 1)
        if self.entropy_control is not None:
            statistics["entropy_coefficient"] = Statistic(entropy_weight, 1)
            if "entropy" in statistics:  # a step may have had nothing to train on
                self.entropy_control = self.entropy_control.after(statistics["entropy"].mean)
        return statistics

    def _ask_older(
        self, rows: TrainingRows, wanted: Indices, objective: Objective, step: int, stage_step: int
    ) -> None:
        """Have the wanted rows scored by an older version of the policy, where it is their teacher."""
        teacher = self._config.policy_teacher
        if self._older is None or teacher is None:
            return
        if teacher.is_renewed(step):
            self._older.renew()
        if objective.scores_with_teacher:
            teach(self._passes, rows, wanted, objective, stage_step, self._older, teacher)

    def _mini_batches(self, rows: TrainingRows) -> tuple[int, list[int]]:
        """How many there are, and which of them have tokens that count; all ranks agree."""
        count = self._passes.agree_on_largest(rows.mini_batches)
        taught = torch.zeros(count, dtype=torch.int32, device=self._device)
        taught[torch.from_numpy(rows.taught_mini_batches).to(self._device)] = 1
        dist.all_reduce(taught, op=dist.ReduceOp.MAX)
        return count, taught.nonzero().flatten().tolist()

    def whole_weights(self, dtype: torch.dtype) -> WholeWeights:
        """Every parameter under its Hugging Face name, one whole at a time."""
        lora = self._config.learner.lora
        scale = 1.0 if lora is None else lora.alpha / lora.rank
        return WholeWeights(self.module.model, dtype, self._device, scale)

    def published_weights(self, dtype: torch.dtype) -> GatheredWeights:
        """What engines get: the whole policy, or its adapters alone (``learner.lora.publish``)."""
        whole = self.whole_weights(dtype)
        if self._config.learner.published_adapter is None:
            return whole
        return AdapterWeights(self.module.model, whole, dtype)

    def state(self) -> dict[str, Any]:
        """This rank's part of model, optimizer and random state, for a checkpoint."""
        is_new = not self.optimizer.state
        model, optimizer = get_state_dict(self.module, self.optimizer)
        if is_new:
            forget_steps(self.optimizer)
        older = {} if self._older is None else {"older_policy": self._older.weights}
        return {"model": model, "optimizer": optimizer, **older, **random_state()}

    def notes(self) -> dict[str, Any]:
        """What else a checkpoint must keep, as JSON; the same on every rank."""
        return {} if self.entropy_control is None else {"entropy_control": self.entropy_control.kept}

    def load(
        self, folder: str | Path, notes: Mapping[str, Any] | None = None, *, forks: bool = False
    ) -> None:
        """Take a checkpoint, also of another number of ranks (the random state then stays).

        Args:
            folder: its folder or address.
            notes: what `notes` said then.
            forks: it is another run's, of which the policy may have no older version, or another one. The
                policy that is read is then its own.
        """
        state = self.state()
        if forks:
            state.pop("older_policy", None)
        read_into(state, str(folder))
        set_state_dict(
            self.module,
            self.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
        for group in self.optimizer.param_groups:  # a fork may have others than the checkpoint's run
            group.update(betas=self._config.learner.betas, weight_decay=self._config.learner.weight_decay)
        torch.set_rng_state(state[f"rng-{dist.get_rank()}"])
        if forks and self._older is not None:
            self._older.renew()
        if self.entropy_control is not None and notes and "entropy_control" in notes:
            self.entropy_control = self.entropy_control.restored(notes["entropy_control"])

    def export(self, folder: Path, ends: Sequence[int] = ()) -> None:
        """Write a Hugging Face folder (rank 0), see `export_policy`."""
        export_policy(self._config, self._folder, self.whole_weights, folder, ends)
