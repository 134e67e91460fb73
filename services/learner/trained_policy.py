"""The policy being trained on one learner rank: FSDP2 model, optimizer, one optimizer step per mini-batch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import (
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import FSDPModule

from rlad_core.config import RunConfig
from rlad_core.objectives import Objective, ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.ages import by_age
from rlad_core.sections import code
from rlad_core.sizing import pair_cost_of
from services.base.telemetry import span
from services.learner.adapters import write_adapter
from services.learner.checkpoints import random_state, read_into
from services.learner.divergence import DivergedError
from services.learner.export import export, export_dtype
from services.learner.learning_rate import learning_rate
from services.learner.making import make_policy
from services.learner.notes import note
from services.learner.older_policy import OlderPolicy
from services.learner.older_rows import read_by_older, told_by_older
from services.learner.optimizers import forget_steps, make_optimizer, set_learning_rate
from services.learner.passes import Passes
from services.learner.sharding import keeps_gradients_local, learner_mesh, synchronise
from services.learner.statistics import Statistics, add, distances, over_ranks
from services.learner.teacher_states import TeacherStates
from services.learner.training_rows import Indices, TrainingRows
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
        self._world = dist.get_world_size()
        adaptive = config.learner.adaptive_entropy
        self.entropy = None if adaptive is None else adaptive.control
        torch.manual_seed(config.seed)
        learner = config.learner
        mesh = learner_mesh(device.type, self._world, learner.fsdp_size)
        tell = tell or partial(note, config)
        self.module, self.bytes_read = make_policy(config, model_folder, device, mesh, tell)
        self._copies = mesh.ndim > 1
        self._local = keeps_gradients_local(self.module, learner)
        self.optimizer = make_optimizer(self.module.parameters(), learner)
        self._passes = Passes(
            self.module, device, learner.tokens_per_micro_batch, pair_cost_of(model_folder), teacher
        )
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
        several = len(taught) * learner.epochs_per_batch > 1
        if len(taught) > 1 and rows.needs_old_logprobs:
            # The first mini-batch is trained on by the old policy itself: its own pass tells them.
            later = rows.of_mini_batches(taught[1:])
            tokens = int(rows.response_lengths[later].sum())
            with span("old_logprobs", items=len(later), tokens=tokens):
                self._passes.keep_old(rows, later, objective, stage_step)
        statistics: Statistics = {}
        rate = learning_rate(self._config, step, early_ends)
        set_learning_rate(self.optimizer, rate)
        every = learner.entropy_every
        with_entropy = (
            objective.needs_entropy or self.entropy is not None or (every > 0 and step % every == 0)
        )
        updates = 0
        tokens = int(rows.response_lengths[trained].sum())
        with span("update", items=len(trained), tokens=tokens):
            for number, mini_batch in enumerate(taught * learner.epochs_per_batch):
                told = self._optimizer_step(
                    rows,
                    mini_batch,
                    objective,
                    stage_step,
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
        if self.entropy is not None:
            statistics["entropy_coefficient"] = Statistic(self.entropy.weight, 1)
            if "entropy" in statistics:  # a step may have had nothing to train on
                self.entropy = self.entropy.after(statistics["entropy"].mean)
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
        if not objective.scores_with_teacher:
            return
        privileged, unites = teacher.prefix is not None, objective.compares_end_tokens
        read = read_by_older(rows, privileged=privileged, unites_end_tokens=unites)
        tokens = int(rows.response_lengths[wanted].sum())
        with span("teacher", items=len(wanted), tokens=tokens), self._older.in_place():
            passes = self._passes.through(read, wanted, objective, stage_step)
            asked = ((each.members, each.logprobs) for each in passes if each.members.size)
            rows.take_from_teacher(told_by_older(read, asked))

    def _mini_batches(self, rows: TrainingRows) -> tuple[int, list[int]]:
        """How many there are, and which of them have tokens that count; all ranks agree."""
        count = self._passes.agree_on_largest(rows.mini_batches)
        taught = torch.zeros(count, dtype=torch.int32, device=self._device)
        taught[torch.from_numpy(rows.taught_mini_batches).to(self._device)] = 1
        dist.all_reduce(taught, op=dist.ReduceOp.MAX)
        return count, taught.nonzero().flatten().tolist()

    def _optimizer_step(
        self,
        rows: TrainingRows,
        mini_batch: int,
        objective: Objective,
        stage_step: int,
        *,
        with_entropy: bool = True,
        has_old: bool = False,
        keeps_old: bool = False,
    ) -> Statistics | None:
        """What it tells; None where the policy is already too far from the old one, and stays as it is.

        Args:
            has_old: the batch has more than one update, so the policy leaves the old one.
            keeps_old: the policy is the old one, and the rows are trained on again.
        """
        statistics: Statistics = {}
        loss_sum = 0.0
        bonus = 0.0 if self.entropy is None else self.entropy.weight
        members = rows.of_mini_batches([mini_batch])
        for each in self._passes.through(rows, members, objective, stage_step, with_entropy=with_entropy):
            synchronise(self._fsdp, last=each.is_last, local=self._local, copies=self._copies)
            if not each.members.size:
                (each.logprobs.sum() * 0.0).backward()
                continue
            if keeps_old:
                self._passes.note_old(each, objective, stage_step)
            batch = each.batch
            output = _ask(objective, batch, stage_step)
            loss = output.loss
            if bonus and batch.entropy is not None:
                loss = loss - bonus * (batch.entropy * batch.weights).sum()
            # FSDP averages the ranks' gradients, and a loss of ours is their sum.
            (loss * self._world).backward()
            loss_sum += loss.item()
            add(statistics, {**distances(batch, has_old=has_old), **output.statistics})
            if self._config.rollout.max_staleness and rows.counted_versions is not None:
                cap = getattr(objective, "mismatch_cap", None)
                add(statistics, by_age(batch, rows.counted_versions, cap))
        if self._is_too_far(statistics):
            self.optimizer.zero_grad(set_to_none=True)
            return None
        # Each rank holds its part of the sum, and the count is over all ranks one.
        statistics["loss"] = Statistic(loss_sum, 1 / self._world)
        clip = self._config.learner.grad_clip
        norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), math.inf if clip is None else clip)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not torch.isfinite(norm):
            raise DivergedError(
                f"the gradient's norm is {norm.item()} in mini-batch {mini_batch}: nothing was updated. "
                "Look at the last rows of metrics.jsonl; a lower learner.lr may help, and ratio_cap in an "
                "objective that has the teacher in its ratio without a clamp"
            )
        statistics["gradient_norm"] = Statistic(norm.item() / self._world, 1 / self._world)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return statistics

    def _is_too_far(self, statistics: Statistics) -> bool:
        """Whether the policy has left the old one by more than the recipe allows; all ranks agree."""
        if (most := self._config.learner.max_kl) is None:
            return False
        mine = statistics.get("kl_to_old", Statistic(0.0, 0.0))
        shared = torch.tensor([float(mine.total), float(mine.count)], device=self._device)
        dist.all_reduce(shared)
        return bool(shared[1] > 0) and float(shared[0] / shared[1]) > most

    @property
    def _fsdp(self) -> FSDPModule:
        assert isinstance(self.module, FSDPModule)
        return self.module

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
        return {} if self.entropy is None else {"entropy_control": self.entropy.kept}

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
        if self.entropy is not None and notes and "entropy_control" in notes:
            self.entropy = self.entropy.restored(notes["entropy_control"])

    def export(self, folder: Path) -> None:
        """Write a Hugging Face folder (rank 0), see `export`; adapters, where they are trained, beside it."""
        if (lora := self._config.learner.lora) is not None:
            adapters = dict(self.whole_weights(torch.float32).adapters())
            if dist.get_rank() == 0:
                write_adapter(adapters, lora, self._folder, folder.parent / "adapter")
        weights = self.whole_weights(export_dtype(self._folder, getattr(torch, self._config.policy.dtype)))
        if dist.get_rank() != 0:
            for _ in weights:  # a collective call
                pass
            return
        export(weights.specs(), weights, self._folder, folder)
        if (template := self._config.policy.chat_template) is not None:
            # What it was trained to read; the template that its source came with is another.
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        (folder / "rlad.json").write_text(json.dumps({"run": self._config.name, "seed": self._config.seed}))


def _ask(objective: Objective, batch: TokenBatch, stage_step: int) -> ObjectiveOutput:
    """Its loss; what goes wrong in a user's own is told with its name, file and line."""
    try:
        output: Any = objective(batch, stage_step)
        if not isinstance(output, ObjectiveOutput):
            raise TypeError(f"it returned a {type(output).__name__}, not ObjectiveOutput(loss, statistics)")
        if not output.loss.requires_grad:
            raise ValueError(
                "its loss has no gradient; of a batch only policy_logprobs and entropy carry one"
            )
    except Exception as error:
        raise RuntimeError(f"the objective {objective.label} failed: {code.fault(error)}") from error
    return output
