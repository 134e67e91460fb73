"""Prompts in, what the engine writes to them out, within turns and time limits."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rlad_core import metrics, schema
from rlad_core.client.errors import DeadlineError
from rlad_core.waiting import all_of, in_parts, limit
from services.base import telemetry
from services.rollout.app import SERVICE
from services.rollout.settings import SamplingSettings
from services.rollout.tables import (
    SampledResponse,
    check_end_tokens,
    check_prompts,
    group_seed,
    to_part,
    to_prompt_rows,
    to_rollouts,
)
from services.rollout.turns import EngineTurns
from services.serve.lost_engine import EngineLostError, end_with_engine
from services.weights.held_policy import HeldPolicy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from services.rollout.engine import PolicyEngine

_COMPANY_S = 1.0
"""Little beside the minutes that long responses take, and enough that short ones are not sent one by one."""


def _asked(top_tokens: int) -> tuple[str, ...]:
    return ("rollout_top_token_ids",) if top_tokens else ()


class Sampler:
    """Of one replica, which ends with its engine.

    Args:
        held: which version the engine holds.
        fingerprint: the tokenizer's.
        vocab_size: tokens that there are.
        max_model_len: tokens of a prompt and a response together.
        timeout_s: limit of a call.
    """

    def __init__(
        self,
        engine: "PolicyEngine",
        held: HeldPolicy,
        turns: EngineTurns,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        fingerprint: str,
        vocab_size: int,
        max_model_len: int,
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._held = held
        self._turns = turns
        self._tokenizer = tokenizer
        self._fingerprint = fingerprint
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._timeout_s = timeout_s

    async def check(self, prompts: pa.Table, sampling: SamplingSettings) -> None:
        """See that all of them can be answered.

        Raises:
            InvalidRequestError: one cannot, or not with these settings; names it.
        """
        check_end_tokens(sampling.stop_token_ids, self._vocab_size)
        check_prompts(
            prompts,
            tokenizer_fingerprint=self._fingerprint,
            vocab_size=self._vocab_size,
            max_model_len=self._max_model_len,
        )

    async def sample(
        self, prompts: pa.Table, sampling: SamplingSettings, min_version: int = 0, top_tokens: int = 0
    ) -> pa.Table:
        """Groups of responses; see `services.rollout.service.RolloutService.generate`."""
        with telemetry.phase(SERVICE, "decode"):
            await self.check(prompts, sampling)
            rows = to_prompt_rows(prompts)
        try:
            with telemetry.phase(SERVICE, "queue") as phase:
                await self._held.reach(min_version)
                phase.change("engine")
                what = f"{sampling.group_size} responses each to {len(rows)} prompts"
                async with limit(self._timeout_s, what):
                    groups = await all_of(self._group(row, sampling, top_tokens) for row in rows)
        except TimeoutError as error:
            raise DeadlineError(str(error)) from error
        with telemetry.phase(SERVICE, "encode"):
            asked = _asked(top_tokens)
            # Not on the event loop: texts of millions of tokens take seconds.
            rollouts = await asyncio.to_thread(
                to_rollouts, rows, groups, self._tokenizer, self._fingerprint, asked=asked
            )
        return self._counted(rollouts)

    async def sample_in_parts(
        self, prompts: pa.Table, sampling: SamplingSettings, min_version: int, top_tokens: int
    ) -> AsyncGenerator[pa.Table, None]:
        """One group, as its responses finish; see `services.rollout.service.RolloutService`."""
        with telemetry.phase(SERVICE, "decode"):
            await self.check(prompts, sampling)
            [row] = to_prompt_rows(prompts)
        alone = sampling.model_copy(update={"group_size": 1})

        async def sample(index: int) -> tuple[int, SampledResponse]:
            [response] = await self._group(row, alone, top_tokens, first=index)
            return index, response

        what, left = f"{sampling.group_size} responses to a prompt", sampling.group_size
        try:
            with telemetry.phase(SERVICE, "queue") as phase:
                await self._held.reach(min_version)
                phase.change("engine")
                work = map(sample, range(sampling.group_size))
                parts = in_parts(work, company_s=_COMPANY_S, limit_s=self._timeout_s, what=what)
                async with aclosing(parts):
                    async for part in parts:
                        left -= len(part)
                        if not left:  # the others are told while the engine is at work
                            phase.change("encode")
                        asked = _asked(top_tokens)
                        rollouts = await asyncio.to_thread(
                            to_part, row, part, self._tokenizer, self._fingerprint, asked=asked
                        )
                        yield self._counted(rollouts)
        except TimeoutError as error:
            raise DeadlineError(str(error)) from error

    def _counted(self, rollouts: pa.Table) -> pa.Table:
        """The same, and the metrics know of it."""
        telemetry.count(metrics.SERVICE_SEQUENCES, rollouts.num_rows, service=SERVICE)
        for kind, column in (("prompt", "prompt_token_ids"), ("generated", "response_token_ids")):
            tokens = int(schema.lengths(rollouts.column(column)).sum())
            telemetry.count(metrics.SERVICE_TOKENS, tokens, service=SERVICE, kind=kind)
        return rollouts

    async def _group(
        self, row: dict[str, Any], sampling: SamplingSettings, top_tokens: int, first: int = 0
    ) -> list[SampledResponse]:
        """Responses of a group, from its response `first` on."""
        parts = await all_of(
            self._part(
                row, sampling.model_copy(update={"group_size": stop - start}), top_tokens, first + start
            )
            for start, stop in self._turns.parts(sampling.group_size)
        )
        return [response for part in parts for response in part]

    async def _part(
        self, row: dict[str, Any], sampling: SamplingSettings, top_tokens: int, first: int
    ) -> list[SampledResponse]:
        """As many of them as take a turn together."""
        seed = None if sampling.seed is None else group_seed(sampling.seed, row["group_id"]) + first
        cost = sampling.group_size * min(sampling.max_tokens, self._max_model_len)
        try:
            async with self._turns.turn(sampling.group_size, cost + len(row["prompt_token_ids"])):
                return await self._engine.sample(row["prompt_token_ids"], sampling, seed, top_tokens)
        except EngineLostError as error:
            end_with_engine(SERVICE, error)
