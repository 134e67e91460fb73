"""The policy being trained on one learner rank: FSDP2 model, optimizer, one optimizer step per mini-batch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import FSDPModule

from rlad_core.activations import recompute_activations
from rlad_core.batching import Indices, costs, micro_batches, spread
from rlad_core.compiled import compile_layers
from rlad_core.config import RunConfig
from rlad_core.exact_normaliser import ExactNormaliser
from rlad_core.forward import decoder_layers
from rlad_core.norms import lean_norms
from rlad_core.objectives import Objective, ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.ages import by_age
from rlad_core.packing import PackedBatch, filler
from rlad_core.sections import code
from rlad_core.sizing import pair_cost_of
from services.base import telemetry
from services.base.telemetry import span
from services.learner.adapters import add_adapters, write_adapter
from services.learner.checkpoints import random_state, read_into
from services.learner.export import export, export_dtype
from services.learner.learning_rate import learning_rate
from services.learner.loading import empty_policy, load_weights, make_ready
from services.learner.optimizers import make_optimizer, set_learning_rate
from services.learner.sharding import keeps_gradients_local, learner_mesh, shard, synchronise
from services.learner.statistics import Statistics, add, distances
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
    """

    def __init__(
        self,
        config: RunConfig,
        model_folder: str,
        device: torch.device,
        teacher: TeacherStates | None = None,
    ) -> None:
        self._teacher = teacher
        self._config = config
        self._folder = model_folder
        self._device = device
        self._world = dist.get_world_size()
        self._pair_cost = pair_cost_of(model_folder)
        self._with_entropy = True
        # A kernel for a stream of sequences, which GPUs have, wants each sequence's tokens side by side.
        self._share_prompts = device.type == "cpu"
        adaptive = config.learner.adaptive_entropy
        self.entropy = None if adaptive is None else adaptive.control
        torch.manual_seed(config.seed)
        learner = config.learner
        dtype = getattr(torch, config.policy.dtype)
        mesh = learner_mesh(device.type, self._world, learner.fsdp_size)
        self._copies = mesh.ndim > 1
        module = empty_policy(model_folder, device, config.policy.max_length)
        if learner.logprobs == "fused":
            module.head.fuse()
        if learner.lora is not None:
            add_adapters(module.model, learner.lora)
        layers = decoder_layers(module.model)  # found by the names of their classes, which sharding changes
        recompute_activations(module.model, learner.activation_checkpointing)
        shard(module, learner, dtype, mesh)
        lying = torch.device("cpu") if learner.cpu_offload else device
        self.bytes_read = load_weights(module, model_folder, lying, config.policy.max_length, config.seed)
        self.module = make_ready(module, dtype, device)
        self._local = keeps_gradients_local(module, learner)
        if learner.compile == "on" or (learner.compile == "auto" and device.type == "cuda"):
            compile_layers(layers, tell=partial(telemetry.log, level="warning"))
        else:  # a compiler fuses them
            lean_norms(module.model)
        self.optimizer = make_optimizer(module.parameters(), learner)

    def train_on(
        self,
        rows: TrainingRows,
        objective: Objective,
        step: int,
        early_ends: Mapping[int, int] | None = None,
    ) -> Statistics:
        """One optimizer step for each mini-batch of the step's batch, as often as the recipe says.

        Args:
            rows: this rank's; the statistics cover those of all ranks.
            step: of the run.
            early_ends: of stages, see `RunConfig.position`.
        """
        learner = self._config.learner
        stage_step = self._config.position(step, early_ends).step
        count = self._agree_on_largest(rows.mini_batches)
        again = learner.epochs_per_batch > 1 and rows.needs_old_logprobs
        if count > 1 and rows.needs_old_logprobs:
            # The first mini-batch is trained on by the old policy itself: its own pass tells them.
            later = rows.after_first
            tokens = int(rows.response_lengths[later].sum())
            with span("old_logprobs", items=len(later), tokens=tokens):
                self._keep_old(rows, later, objective, stage_step)
        statistics: Statistics = {}
        rate = learning_rate(self._config, step, early_ends)
        set_learning_rate(self.optimizer, rate)
        every = learner.entropy_every
        self._with_entropy = (
            objective.needs_entropy or self.entropy is not None or (every > 0 and step % every == 0)
        )
        updates = 0
        with span("update", items=len(rows), tokens=rows.response_tokens):
            for number in range(count * learner.epochs_per_batch):
                keeps_old = again and number == 0
                told = self._optimizer_step(rows, number % count, objective, stage_step, keeps_old=keeps_old)
                if told is None:
                    break
                add(statistics, told)
                updates += 1
        statistics = self._over_ranks(statistics)
        statistics["learning_rate"] = Statistic(rate, 1)
        if count * learner.epochs_per_batch > 1:
            statistics["updates"] = Statistic(updates, 1)
        if self.entropy is not None:
            statistics["entropy_coefficient"] = Statistic(self.entropy.weight, 1)
            if "entropy" in statistics:  # a step may have had nothing to train on
                self.entropy = self.entropy.after(statistics["entropy"].mean)
        return statistics

    def _optimizer_step(
        self,
        rows: TrainingRows,
        mini_batch: int,
        objective: Objective,
        stage_step: int,
        *,
        keeps_old: bool = False,
    ) -> Statistics | None:
        """What it tells; None where the policy is already too far from the old one, and stays as it is.

        Args:
            keeps_old: the policy is the old one, and the rows are trained on again.
        """
        statistics: Statistics = {}
        loss_sum = 0.0
        bonus = 0.0 if self.entropy is None else self.entropy.weight
        batches = self._micro_batches(rows, rows.of_mini_batch(mini_batch))
        beside = self._normalisers(rows, batches, objective, stage_step)
        for number, (members, normaliser) in enumerate(zip(batches, beside, strict=True)):
            last = number == len(batches) - 1
            synchronise(self._fsdp, last=last, local=self._local, copies=self._copies)
            packed = (rows.pack(members, share_prompts=self._share_prompts) if members.size else filler()).to(
                self._device
            )
            logprobs, entropy = self.module(packed, with_entropy=self._with_entropy, beside=normaliser)
            if not members.size:
                (logprobs.sum() * 0.0).backward()
                continue
            if keeps_old:
                self._note_old(rows, members, packed, logprobs.detach(), normaliser, objective, stage_step)
            log_z = None if normaliser is None else normaliser.log_z
            batch = rows.token_batch(members, packed, logprobs, entropy, log_z)
            output = _ask(objective, batch, stage_step)
            loss = output.loss
            if bonus and batch.entropy is not None:
                loss = loss - bonus * (batch.entropy * batch.weights).sum()
            # FSDP averages the ranks' gradients, and a loss of ours is their sum.
            (loss * self._world).backward()
            loss_sum += loss.item()
            add(statistics, {**distances(batch, rows), **output.statistics})
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
            raise FloatingPointError(
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

    def _micro_batches(self, rows: TrainingRows, members: Indices) -> list[Indices]:
        """As many on every rank, of like cost: FSDP gathers parameters in each pass, and all take part."""
        budget = self._config.learner.tokens_per_micro_batch
        units = rows.together(members, budget, share_prompts=self._share_prompts)
        tokens = np.array([rows.stream_tokens(unit) for unit in units], dtype=np.int64)
        mine = micro_batches(tokens, budget)
        if self._world > 1:  # one rank waits for no other, and goes through the fewest
            count = self._agree_on_largest(len(mine))
            pairs = [costs(rows.lengths[unit], self._pair_cost) - rows.lengths[unit] for unit in units]
            mine = spread(mine, tokens, tokens + [each.sum() for each in pairs], budget, count)
        return [np.sort(np.concatenate([members[:0], *(units[unit] for unit in batch)])) for batch in mine]

    @torch.no_grad()
    def _keep_old(self, rows: TrainingRows, wanted: Indices, objective: Objective, stage_step: int) -> None:
        """Note the log-probs of the wanted rows' responses under the policy as it is now, and what the
        objective makes of them once for all updates.
        """
        batches = self._micro_batches(rows, wanted)
        beside = self._normalisers(rows, batches, objective, stage_step)
        for members, normaliser in zip(batches, beside, strict=True):
            packed = (rows.pack(members, share_prompts=self._share_prompts) if members.size else filler()).to(
                self._device
            )
            logprobs, _ = self.module(packed, beside=normaliser)
            if members.size:
                self._note_old(rows, members, packed, logprobs, normaliser, objective, stage_step)

    def _note_old(
        self,
        rows: TrainingRows,
        members: Indices,
        packed: PackedBatch,
        logprobs: Tensor,
        normaliser: ExactNormaliser | None,
        objective: Objective,
        stage_step: int,
    ) -> None:
        """The same of a micro-batch that was in a pass."""
        log_z = None if normaliser is None else normaliser.log_z
        if rows.has_top:
            log_z = objective.log_z(rows.token_batch(members, packed, logprobs, None), stage_step)
        rows.keep_old(members, logprobs, log_z)

    def _normalisers(
        self, rows: TrainingRows, batches: Sequence[Indices], objective: Objective, stage_step: int
    ) -> Iterator[ExactNormaliser | None]:
        """What sums log Z of each micro-batch under the old policy; None where nothing is to be summed."""
        alpha = objective.hidden_alpha(stage_step)
        if alpha is None or not 0 < alpha < 1:
            return repeat(None, len(batches))
        if self._teacher is None:
            raise ValueError(f"{objective.label} with source: hidden has no teacher to ask for hidden states")
        wanted = [
            rows.sequences(members) if members.size and not rows.is_kept(members) else None
            for members in batches
        ]
        return self._teacher.normalisers(wanted, alpha, rows.united_ends)

    def _agree_on_largest(self, number: int) -> int:
        shared = torch.tensor(number, device=self._device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return int(shared.item())

    def _over_ranks(self, statistics: Statistics) -> Statistics:
        mine = {name: (float(s.total), float(s.count)) for name, s in statistics.items()}
        everyone: list[Any] = [None] * self._world
        dist.all_gather_object(everyone, mine)
        merged: Statistics = {}
        for theirs in everyone:
            add(merged, {name: Statistic(total, count) for name, (total, count) in theirs.items()})
        return merged

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
        model, optimizer = get_state_dict(self.module, self.optimizer)
        return {"model": model, "optimizer": optimizer, **random_state()}

    def notes(self) -> dict[str, Any]:
        """What else a checkpoint must keep, as JSON; the same on every rank."""
        return {} if self.entropy is None else {"entropy_control": self.entropy.kept}

    def save(self, folder: Path) -> None:
        """Write a checkpoint and wait for it, see `Checkpoints.save`."""
        dcp.save(self.state(), checkpoint_id=folder)

    def load(self, folder: str | Path, notes: Mapping[str, Any] | None = None) -> None:
        """Take a checkpoint, also of another number of ranks (the random state then stays).

        Args:
            folder: its folder or address.
            notes: what `notes` said then.
        """
        state = self.state()
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
