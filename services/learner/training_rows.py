"""One rank's rows of a step, as the tensors that the model and the objective take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from rlad_core.assembly import ShardPlan
from rlad_core.batching import Indices, together
from rlad_core.objectives import TokenBatch
from rlad_core.packing import PackedBatch, pack
from rlad_core.schema import LEARNER_VALUES, flatten, take_rows, to_sequences
from rlad_core.schema.declarations import made_by
from rlad_core.staleness import VERSIONS
from services.learner.old_values import OldTokens, OldValues, of_rows

_TOP = ("top_token_ids", "rollout_top_token_ids")


class TrainingRows:
    """A shard: EXPERIENCE for on-policy objectives, SEQUENCES for SFT. Columns are read without copying.

    Args:
        table: the shard's rows, in the plan's order.
        plan: mini-batch and token weight of each row.
        end_tokens: of policy and teacher, which are one outcome where the table has the teacher's
            ``teacher_end_logprobs``.
        unites_end_tokens: they are one outcome all the same.
    """

    def __init__(
        self,
        table: pa.Table,
        plan: ShardPlan,
        end_tokens: Sequence[int] = (),
        *,
        unites_end_tokens: bool = False,
    ) -> None:
        self._unites = unites_end_tokens
        self._plan = plan
        self.table = table
        self.end_tokens = end_tokens
        self._prompts, self._prompt_bounds = flatten(table.column("prompt_token_ids"))
        self._responses, self._response_bounds = flatten(table.column("response_token_ids"))
        self.response_lengths: Indices = np.diff(self._response_bounds)
        self.lengths: Indices = np.diff(self._prompt_bounds) + self.response_lengths
        self.old = OldValues()
        """Of rows that are trained on before any update, nothing is kept: the policy is the old one."""
        self.token_advantages: dict[int, Tensor] = {}
        """Of a row's response, where the objective normalises returns."""
        self.needs_old_logprobs = "rollout_logprobs" in table.column_names
        self._advantages = self._correct = np.zeros(len(self.lengths))
        if self.needs_old_logprobs:
            self._advantages = table.column("advantage").to_numpy()
            self._correct = table.column("correct").to_numpy()
        self._stopped = np.ones(len(self.lengths), dtype=np.bool_)
        if "finish_reason" in table.column_names:
            self._stopped = pc.equal(table.column("finish_reason"), "stop").to_numpy()
        self._values = _declared_values(table, self.response_tokens)

    @property
    def _top(self) -> str | None:
        """The column of likely tokens, where there is one."""
        return next((name for name in _TOP if name in self._values), None)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def response_tokens(self) -> int:
        """Response tokens of all rows."""
        return int(self.response_lengths.sum())

    @property
    def counted_versions(self) -> range | None:
        """Policy versions whose tokens count; None: all."""
        return self._plan.counted_versions

    @property
    def mini_batches(self) -> int:
        """How many mini-batches this rank knows of (another rank may know of more)."""
        return int(self._plan.mini_batch.max()) + 1 if len(self) else 0

    @property
    def taught_mini_batches(self) -> Indices:
        """Those of which some token of this rank's rows counts."""
        return np.unique(self._plan.mini_batch[self._plan.token_weights != 0])

    def of_mini_batches(self, numbers: Sequence[int]) -> Indices:
        """Rows of some mini-batches of which some token counts; the others would change nothing."""
        return np.flatnonzero(np.isin(self._plan.mini_batch, numbers) & (self._plan.token_weights != 0))

    @property
    def _unites_end_tokens(self) -> bool:
        return bool(self.end_tokens) and (self._unites or "teacher_end_logprobs" in self._values)

    def _ends(self, rows: Indices) -> Indices:
        """Which of these rows' response tokens ended a response."""
        last: Indices = np.cumsum(self.response_lengths[rows]) - 1
        return last[self._stopped[rows]]

    @property
    def united_ends(self) -> Sequence[int]:
        """End tokens that are one outcome; none where each is one of its own."""
        return self.end_tokens if self._unites_end_tokens else ()

    def sequences(self, rows: Indices) -> pa.Table:
        """SEQUENCES of these rows, for a teacher."""
        return to_sequences(take_rows(self.table, rows))

    @property
    def has_top(self) -> bool:
        """Whether there are likely tokens, the teacher's or the policy's, whose log-probs are wanted."""
        return self._top is not None

    def units(self, rows: Indices, token_budget: int, *, share_prompts: bool) -> list[Indices]:
        """Which of these rows are packed together, whatever else is: with prompts that they share, or each
        alone. See `rlad_core.batching.together`.
        """
        if not share_prompts:
            return [*rows[:, None]]
        seen: dict[bytes, int] = {}
        bounds = self._prompt_bounds
        prompts = [
            seen.setdefault(self._prompts[bounds[row] : bounds[row + 1]].tobytes(), row)
            for row in rows.tolist()
        ]
        own = self.response_lengths[rows]
        return [rows[unit] for unit in together(prompts, self.lengths[rows] - own, own, token_budget)]

    def stream_tokens(self, rows: Indices) -> int:
        """Tokens of the stream that rows of one prompt are packed to."""
        own = self.response_lengths[rows]
        return int(self.lengths[rows[0]] - own[0] + own.sum())

    def pack(self, rows: Indices, *, share_prompts: bool = False) -> PackedBatch:
        """These rows as one stream. Likely tokens are asked for too, and where end tokens are one outcome,
        all of them: with the former in the place of every response token, else at the ends.
        """
        packed = self._pack(rows, share_prompts)
        if self._top is not None:
            ids = self._of_tokens(self._values[self._top], rows).long()
            if self._unites_end_tokens:
                ids = torch.cat([ids, torch.tensor(self.end_tokens).expand(len(ids), -1)], dim=1)
            return replace(packed, named_ids=ids)
        if not self._unites_end_tokens:
            return packed
        return packed.with_alternatives(self._ends(rows), self.end_tokens)

    def of_table(self, table: pa.Table, *, unites_end_tokens: bool) -> TrainingRows:
        """The same rows by another table; see the class's arguments."""
        return TrainingRows(table, self._plan, self.end_tokens, unites_end_tokens=unites_end_tokens)

    def take_from_teacher(self, told: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Values per response token, [tokens] by name, in the place of all that another teacher told."""
        for value in made_by("teacher"):
            self._values.pop(value.name, None)
        self._values.update(told)

    def keep_old(self, rows: Indices, logprobs: Tensor, log_z: Tensor | None = None) -> None:
        """Note what is known of the policy before the first update of the batch.

        Args:
            rows: that were packed.
            logprobs: of all that the packed batch asks for.
            log_z: what the objective said of them.
        """
        told = self.split_logprobs(rows, logprobs)
        self.old.keep(rows, self.response_lengths[rows], OldTokens(told.policy, told.ends, log_z))

    def split_logprobs(self, rows: Indices, logprobs: Tensor) -> PassLogprobs:
        """Log-probs of all that `pack` asks for, by what they are of."""
        end_count = len(self.end_tokens) if self._unites_end_tokens else 0
        if self._top is not None:
            own, named, rest = logprobs[:, 0], logprobs[:, 1:-1], logprobs[:, -1]
            k = named.shape[1] - end_count
            ends = named[:, k:].logsumexp(dim=1) if end_count else None
            return PassLogprobs(own, ends, named[:, :k], rest)
        if not end_count:
            return PassLogprobs(logprobs)
        tokens = int(self.response_lengths[rows].sum())
        own, alternatives = logprobs[:tokens], logprobs[tokens:]
        places = torch.from_numpy(self._ends(rows)).to(own.device)
        sums = alternatives.view(-1, end_count).logsumexp(dim=1)
        return PassLogprobs(own, torch.zeros_like(own).index_put((places,), sums))

    def _pack(self, rows: Indices, share_prompts: bool) -> PackedBatch:
        return pack(
            [
                (
                    self._prompts[self._prompt_bounds[row] : self._prompt_bounds[row + 1]],
                    self._responses[self._response_bounds[row] : self._response_bounds[row + 1]],
                )
                for row in rows
            ],
            share_prompts=share_prompts,
        )

    def _of_tokens(self, values: npt.NDArray[np.generic], rows: Indices) -> Tensor:
        """Values of these rows' response tokens, [T] or [T, k], of all rows'."""
        bounds = self._response_bounds
        return torch.from_numpy(np.concatenate([values[bounds[row] : bounds[row + 1]] for row in rows]))

    def token_batch(
        self,
        rows: Indices,
        packed: PackedBatch,
        logprobs: Tensor,
        entropy: Tensor | None,
        log_z: Tensor | None = None,
    ) -> TokenBatch:
        """What the objective needs of these rows' response tokens, in the order of `pack`.

        Args:
            logprobs, entropy: of all that `pack` asked for.
            log_z: what was summed beside them, where none was kept.
        """
        device = logprobs.device
        tokens = packed.is_last.numel()
        told = self.split_logprobs(rows, logprobs)
        ends = None if told.ends is None else told.ends.detach()
        old = self.old.of(rows, OldTokens(told.policy.detach(), ends, log_z))
        entropy = None if entropy is None else entropy[:tokens]

        def per_token(values: npt.NDArray[np.generic], dtype: torch.dtype) -> Tensor:
            repeated = np.repeat(values[rows], self.response_lengths[rows])
            return torch.from_numpy(repeated).to(device, dtype)

        declared: dict[str, Tensor] = {
            name: self._of_tokens(values, rows).to(device) for name, values in self._values.items()
        }
        rollout = declared.pop("rollout_logprobs", old.logprobs)
        weights = per_token(self._plan.token_weights, torch.float32)
        if self.counted_versions is not None and (versions := declared.get(VERSIONS)) is not None:
            weights = weights * (versions >= self.counted_versions.start)
        top_is_end = None
        if self._top is not None and told.ends is not None:
            top_is_end = torch.isin(declared[self._top], torch.tensor(self.end_tokens, device=device))
        return TokenBatch(
            policy_logprobs=told.policy,
            old_logprobs=old.logprobs,
            rollout_logprobs=rollout,
            advantages=per_token(self._advantages, torch.float32),
            weights=weights,
            is_last=packed.is_last,
            is_end=packed.is_last & per_token(self._stopped, torch.bool),
            policy_end_logprobs=told.ends,
            old_end_logprobs=old.ends,
            policy_top_logprobs=told.top,
            policy_rest_logprobs=told.rest,
            top_is_end=top_is_end,
            log_z=old.log_z,
            token_advantages=of_rows(self.token_advantages, rows, device),
            is_correct=per_token(self._correct, torch.bool),
            group_has_correct=per_token(self._plan.group_has_correct, torch.bool),
            entropy=entropy,
            **declared,
        )


class PassLogprobs(NamedTuple):
    """Log-probs of the response tokens [T]; of all end tokens together [T], of likely tokens [T, k], and of
    all others together [T], where they were asked for.
    """

    policy: Tensor
    ends: Tensor | None = None
    top: Tensor | None = None
    rest: Tensor | None = None


def _declared_values(table: pa.Table, tokens: int) -> dict[str, npt.NDArray[np.generic]]:
    """All that the schema declares for the learner and the table has: [tokens], or [tokens, k], by name.

    Args:
        tokens: response tokens of all rows.
    """
    found: dict[str, npt.NDArray[np.generic]] = {}
    for value in LEARNER_VALUES:
        if value.name in table.column_names and not table.column(value.name).null_count:
            numbers, _ = flatten(table.column(value.name))
            if value.has_several:
                numbers = numbers.reshape(tokens, numbers.size // max(tokens, 1))
            found[value.name] = numbers
    return found
