"""A rank's rows through the policy: micro-batches of like cost, log-probs, what is kept of the old policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from rlad_core.batching import Indices, costs, micro_batches, spread
from rlad_core.exact_normaliser import ExactNormaliser
from rlad_core.objectives import Objective, TokenBatch
from rlad_core.packing import PackedBatch, filler
from services.learner.teacher_states import TeacherStates
from services.learner.training_rows import TrainingRows


@dataclass(frozen=True, eq=False)
class Pass:
    """A micro-batch that went through the policy.

    Attributes:
        rows: those of the rank. members: which of them went; none where only other ranks have some left, and
            all take part since FSDP gathers parameters in each pass.
        is_last: of the rank's, and of all ranks'.
        packed: what went. logprobs, entropy: of all that it asks for.
        log_z: what was summed beside them.
    """

    rows: TrainingRows
    members: Indices
    is_last: bool
    packed: PackedBatch
    logprobs: Tensor
    entropy: Tensor | None
    log_z: Tensor | None

    @property
    def batch(self) -> TokenBatch:
        """What an objective gets."""
        return self.rows.token_batch(self.members, self.packed, self.logprobs, self.entropy, self.log_z)


class Passes:
    """Of one rank's policy. All ranks make as many, and call `through` and `note_old` alike.

    Args:
        module: the policy, sharded.
        device: of this rank.
        budget: tokens of a micro-batch.
        pair_cost: see `rlad_core.sizing.Shape.pair_cost`.
        teacher: tells hidden states, where an objective is computed from them.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        budget: int,
        pair_cost: float,
        teacher: TeacherStates | None = None,
    ) -> None:
        self._module = module
        self._device = device
        self._budget = budget
        self._pair_cost = pair_cost
        self._teacher = teacher
        # A kernel for a stream of sequences, which GPUs have, wants each sequence's tokens side by side.
        self._share_prompts = device.type == "cpu"

    def through(
        self,
        rows: TrainingRows,
        wanted: Indices,
        objective: Objective,
        stage_step: int,
        *,
        with_entropy: bool = False,
    ) -> Iterator[Pass]:
        """The wanted rows, one micro-batch after the other, each when it is asked for."""
        batches = self._micro_batches(rows, wanted)
        beside = self._normalisers(rows, batches, objective, stage_step)
        for number, (members, normaliser) in enumerate(zip(batches, beside, strict=True), start=1):
            packed = rows.pack(members, share_prompts=self._share_prompts) if members.size else filler()
            packed = packed.to(self._device)
            logprobs, entropy = self._module(packed, with_entropy=with_entropy, beside=normaliser)
            log_z = None if normaliser is None else normaliser.log_z
            yield Pass(rows, members, number == len(batches), packed, logprobs, entropy, log_z)

    def note_old(self, each: Pass, objective: Objective, stage_step: int) -> None:
        """Keep the log-probs of a micro-batch under the policy as it is now, and what the objective makes of
        them once for all updates.
        """
        rows, members, logprobs, log_z = each.rows, each.members, each.logprobs.detach(), each.log_z
        if rows.has_top:
            log_z = objective.log_z(rows.token_batch(members, each.packed, logprobs, None), stage_step)
        rows.keep_old(members, logprobs, log_z)

    def agree_on_largest(self, number: int) -> int:
        """The largest of the ranks' numbers, on every rank. A collective call."""
        shared = torch.tensor(number, device=self._device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return int(shared.item())

    def _micro_batches(self, rows: TrainingRows, members: Indices) -> list[Indices]:
        """As many on every rank, of like cost."""
        budget = self._budget
        units = rows.units(members, budget, share_prompts=self._share_prompts)
        tokens = np.array([rows.stream_tokens(unit) for unit in units], dtype=np.int64)
        mine = micro_batches(tokens, budget)
        if dist.get_world_size() > 1:  # one rank waits for no other, and goes through the fewest
            count = self.agree_on_largest(len(mine))
            pairs = [costs(rows.lengths[unit], self._pair_cost) - rows.lengths[unit] for unit in units]
            mine = spread(mine, tokens, tokens + [each.sum() for each in pairs], budget, count)
        return [np.sort(np.concatenate([members[:0], *(units[unit] for unit in batch)])) for batch in mine]

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
            rows.sequences(members) if members.size and not rows.old.has(members) else None
            for members in batches
        ]
        return self._teacher.normalisers(wanted, alpha, rows.united_ends)
