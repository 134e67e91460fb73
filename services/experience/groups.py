"""One group's way through the services: responses, then the teacher's log-probs and rewards side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlad_core import schema
from rlad_core.config import RunConfig
from rlad_core.config.run import REFERENCE
from rlad_core.config.teachers import Manner
from rlad_core.metric_specs import StepStage
from rlad_core.overlong import penalised
from rlad_core.schema import lengths
from rlad_core.staleness import tokens_by_version
from rlad_core.waiting import all_of
from services.base.telemetry import span
from services.clients.responses import Responses
from services.experience.finished import Finished
from services.experience.scorers import Scorer, Told, stage_of, together
from services.rollout.settings import SamplingSettings


@dataclass(frozen=True)
class Group:
    """A finished group.

    Attributes:
        position: of its prompt in the run's stream of prompts.
        rollouts, rewards: ROLLOUTS and REWARDS, one row per response.
        teacher_scores: TEACHER_SCORES of the same responses, or TEACHER_DETAILS where the objective wants
            more, of several teachers mixed; None where no teacher was asked.
        reference_scores: the same of the frozen reference.
        told: what each of them said, by its place in the recipe.
        sampled: when its last response was there, in seconds since the epoch.
        scored: when all who score it had their word on all of them, by their stage: its teachers, and the
            frozen reference.
        judged: when the verifier had.
    """

    position: int
    rollouts: pa.Table
    rewards: pa.Table
    teacher_scores: pa.Table | None
    reference_scores: pa.Table | None = None
    told: Mapping[str, Told] = field(default_factory=dict)
    sampled: float = 0.0
    scored: Mapping[StepStage, float] = field(default_factory=dict)
    judged: float = 0.0

    @property
    def group_id(self) -> str:
        """The group's id."""
        return str(self.rollouts.column("group_id")[0].as_py())

    @property
    def response_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each response, int64 [N]."""
        return lengths(self.rollouts.column("response_token_ids"))

    @property
    def response_tokens(self) -> int:
        """Response tokens of all its responses."""
        return int(self.response_lengths.sum())

    @cached_property
    def tokens_by_version(self) -> dict[int, int]:
        """Response tokens of each policy version; of responses that the policy sampled. Asked for several
        times a step, and there may be millions of them.
        """
        return tokens_by_version(self.rollouts)


Judged = Callable[[pa.Table, pa.Table], pa.Table]
"""REWARDS and their ROLLOUTS -> REWARDS."""


def unchanged(rewards: pa.Table, rollouts: pa.Table) -> pa.Table:
    """The verifier's rewards as they are."""
    return rewards


def judged_by(config: RunConfig) -> Judged:
    """What a run's settings make of the verifier's rewards, see `rlad_core.overlong`."""
    rollout = config.rollout
    if rollout.truncated != "penalise" or rollout.overlong_buffer is None:
        return unchanged
    return partial(
        penalised,
        longest=rollout.max_response_length,
        max_length=config.policy.max_length,
        buffer=rollout.overlong_buffer,
        factor=rollout.overlong_penalty,
    )


class GroupWorker:
    """Takes groups through the services. Holds no state: a group can be worked on again after a fault.

    Args:
        responses: the services that sample and judge.
        judged: what becomes of the verifier's rewards.
        policy_top_k: how many of the policy's likeliest tokens are told at each place.
        manner: in which several teachers are mixed.
    """

    def __init__(
        self,
        responses: Responses,
        judged: Judged = unchanged,
        policy_top_k: int = 0,
        manner: Manner = "probabilities",
    ) -> None:
        self._responses = responses
        self._judged = judged
        self._policy_top_k = policy_top_k
        self._manner = manner

    async def work(
        self,
        position: int,
        group: pa.Table,
        prompts: pa.Table,
        sampling: SamplingSettings,
        version: int,
        scorers: Sequence[Scorer] = (),
    ) -> Group:
        """Sample; score and judge responses as they finish, both at the same time.

        Each asks for what has finished since it asked before, so a prompt that the responses share is read
        once for all that finish together. Rows are in the order of the group's responses.

        Args:
            position: kept for the caller.
            group: one row with group_id, prompt_id, prompt_token_ids.
            prompts: PROMPTS that hold the group's prompt.
            version: oldest policy version that may sample.
            scorers: the prompt's teachers, and the frozen reference where the objective holds on to it.

        Raises:
            TimeoutError: naming the service that did not answer.
        """
        finished = Finished()
        sampled = judged = 0.0
        scored: dict[StepStage, float] = {}

        async def sample() -> pa.Table:
            nonlocal sampled
            with span("rollout") as work:
                await self._responses.sample_in_parts(
                    group, sampling, version, finished.add, self._policy_top_k
                )
                finished.end()
                rollouts = pa.concat_tables(finished.parts)
                work.items = len(rollouts)
                work.tokens = int(lengths(rollouts.column("response_token_ids")).sum())
            sampled = time.time()
            return rollouts

        async def score(scorer: Scorer) -> pa.Table:
            told = await finished.each(scorer.score)
            scored[stage_of(scorer.place)] = time.time()  # the last of a stage is the latest
            return told

        async def judge() -> pa.Table:
            nonlocal judged
            told = await finished.each(lambda part: self._responses.judge(part, prompts))
            judged = time.time()
            return told

        rollouts, rewards, *scores = await all_of((sample(), judge(), *map(score, scorers)))
        rollouts = _ordered(rollouts, rollouts.column("sample_index").to_numpy())
        ids = schema.sequence_ids(rollouts)
        rewards, *scores = (
            _ordered(each, pc.index_in(each.column("sequence_id"), ids).to_numpy())
            for each in (rewards, *scores)
        )
        told = {
            scorer.place: Told(scorer.reads(rollouts), each)
            for scorer, each in zip(scorers, scores, strict=True)
        }
        teachers = [scorer for scorer in scorers if scorer.place != REFERENCE]
        taught = together(teachers, [told[scorer.place] for scorer in teachers], self._manner)
        reference = told[REFERENCE].scores if REFERENCE in told else None
        rewards = self._judged(rewards, rollouts)
        return Group(position, rollouts, rewards, taught, reference, told, sampled, scored, judged)


def _ordered(table: pa.Table, places: npt.ArrayLike) -> pa.Table:
    """Its rows by their places, [N]; itself where they lie so."""
    return schema.take_rows(table, np.argsort(np.asarray(places))).combine_chunks()
