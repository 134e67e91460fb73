"""One group's way through the services: responses, then the teacher's log-probs and rewards side by side."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlad_core import schema
from rlad_core.advantage import group_relative_advantages
from rlad_core.config import RunConfig
from rlad_core.config.run import REFERENCE
from rlad_core.config.teachers import Manner
from rlad_core.overlong import is_cut_off, penalised
from rlad_core.schema import flatten, lengths
from rlad_core.staleness import VERSIONS, young_tokens
from rlad_core.waiting import all_of
from services.base.telemetry import span
from services.clients.responses import Responses
from services.experience.finished import Finished
from services.experience.scorers import Scorer, Told, together
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
        sampled, scored, judged: when its last response was there, and when all who score it, and the
            verifier, had their word on all of them; in seconds since the epoch.
    """

    position: int
    rollouts: pa.Table
    rewards: pa.Table
    teacher_scores: pa.Table | None
    reference_scores: pa.Table | None = None
    told: Mapping[str, Told] = field(default_factory=dict)
    sampled: float = 0.0
    scored: float = 0.0
    judged: float = 0.0

    @property
    def group_id(self) -> str:
        """The group's id."""
        return str(self.rollouts.column("group_id")[0].as_py())

    @property
    def response_tokens(self) -> int:
        """Response tokens of all its responses."""
        return _tokens(self.rollouts)


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
        sampled = scored = judged = 0.0

        async def sample() -> pa.Table:
            nonlocal sampled
            with span("rollout") as work:
                await self._responses.sample_in_parts(
                    group, sampling, version, finished.add, self._policy_top_k
                )
                finished.end()
                rollouts = pa.concat_tables(finished.parts)
                work.items = len(rollouts)
                work.tokens = _tokens(rollouts)
            sampled = time.time()
            return rollouts

        async def score(scorer: Scorer) -> pa.Table:
            nonlocal scored
            told = await finished.each(scorer.score)
            scored = time.time()
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
        scored = max(sampled, scored)  # nobody may score it
        return Group(position, rollouts, rewards, taught, reference, told, sampled, scored, judged)


def _ordered(table: pa.Table, places: npt.ArrayLike) -> pa.Table:
    """Its rows by their places, [N]; itself where they lie so."""
    return schema.take_rows(table, np.argsort(np.asarray(places))).combine_chunks()


def join_groups(
    groups: Sequence[Group],
    prompts: pa.Table,
    *,
    scale_advantages: bool = True,
    teacher_prompts: Mapping[str, Sequence[int]] | None = None,
) -> tuple[pa.Table, list[str]]:
    """EXPERIENCE of the groups with their advantages, and the group of each row.

    Args:
        prompts: PROMPTS that hold the groups' prompts.
        scale_advantages: by the spread of each group's rewards.
        teacher_prompts: see `rlad_core.schema.join_experience`.
    """
    if not groups:
        return schema.EXPERIENCE.empty_table(), []
    # A chunk for each group: tokens are copied once, when each rank's rows are taken.
    rollouts = pa.concat_tables([group.rollouts for group in groups])
    rewards = pa.concat_tables([group.rewards for group in groups])
    scores = [group.teacher_scores for group in groups if group.teacher_scores is not None]
    reference = [group.reference_scores for group in groups if group.reference_scores is not None]
    reward_of = dict(zip(rewards["sequence_id"].to_pylist(), rewards["reward"].to_pylist(), strict=True))
    ids = schema.sequence_ids(rollouts).to_pylist()
    group_ids = rollouts.column("group_id").to_pylist()
    rewards_of_rows = [reward_of[sequence] for sequence in ids]
    advantages = group_relative_advantages(rewards_of_rows, group_ids, scale=scale_advantages).advantages
    experience = schema.join_experience(
        rollouts,
        prompts=prompts,
        rewards=rewards,
        advantages=dict(zip(ids, advantages.tolist(), strict=True)),
        teacher_scores=pa.concat_tables(scores) if scores else None,
        reference_scores=pa.concat_tables(reference) if reference else None,
        teacher_prompts=teacher_prompts,
    )
    return experience, group_ids


def accepted(group: Group) -> npt.NDArray[np.bool_]:
    """Which rows of a demonstrator's rollouts are trained on: right, and not cut off, bool [N].

    A whole turn that was cut off would teach to stop in the middle.
    """
    right = dict(
        zip(group.rewards["sequence_id"].to_pylist(), group.rewards["correct"].to_pylist(), strict=True)
    )
    ids = schema.sequence_ids(group.rollouts).to_pylist()
    return np.array([right[sequence] for sequence in ids], np.bool_) & ~is_cut_off(group.rollouts)


def accepted_sequences(groups: Sequence[Group]) -> tuple[pa.Table, list[str]]:
    """SEQUENCES of the responses that are `accepted`, and the group of each row."""
    if not groups:
        return schema.SEQUENCES.empty_table(), []
    rollouts = pa.concat_tables([group.rollouts.filter(pa.array(accepted(group))) for group in groups])
    return schema.to_sequences(rollouts), rollouts.column("group_id").to_pylist()


def step_numbers(
    kept: Sequence[Group], dropped: Sequence[Group], counted: range | None, *, masks: bool = False
) -> dict[str, float]:
    """The step's batch in numbers, by their names in metrics.jsonl.

    Rewards, accuracy and lengths are those of all responses that were sampled: leaving the uninformative
    groups out would make both look other than they are.

    Args:
        counted: policy versions whose tokens count, the last the policy's now; None where another model wrote
            them.
        masks: responses that were cut off do not count either.
    """
    sampled = [*kept, *dropped]
    rewards = np.concatenate([group.rewards.column("reward").to_numpy() for group in sampled])
    correct = np.concatenate([group.rewards.column("correct").to_numpy() for group in sampled])
    cut_off = np.concatenate([is_cut_off(group.rollouts) for group in sampled])
    tokens, wasted = (sum(group.response_tokens for group in groups) for groups in (sampled, dropped))
    if counted is None:  # of a group that is kept, what is not accepted is not trained on either
        wasted += sum(_tokens(group.rollouts.filter(pa.array(~accepted(group)))) for group in kept)
    numbers = {
        "reward_mean": float(rewards.mean()),
        "accuracy": float(correct.mean()),
        "responses": len(rewards),
        "response_length": tokens / len(rewards),
        "truncated": int(cut_off.sum()),
        "truncated_share": int(cut_off.sum()) / len(cut_off),
        "groups": len(kept),
        "dropped_groups": len(dropped),
        "tokens": tokens,
        "wasted_tokens": wasted,
    }
    if counted is not None and kept:
        made_by = np.concatenate([flatten(group.rollouts.column(VERSIONS))[0] for group in kept])
        young = made_by >= counted.start
        numbers["stale_masked"] = int(made_by.size - young.sum())
        if masks:
            young &= ~np.concatenate([_of_cut_off(group.rollouts) for group in kept])
        if (trained := made_by[young]).size:
            numbers["staleness"] = float(counted[-1] - trained.mean())
            numbers["staleness_max"] = float(counted[-1] - trained.min())
    return numbers


def stale_tokens(groups: Sequence[Group], counted: range) -> dict[str, int]:
    """Tokens of versions older than those that count, by the id of each group that has some."""
    found = {
        group.group_id: group.response_tokens - int(young_tokens(group.rollouts, counted).sum())
        for group in groups
    }
    return {name: tokens for name, tokens in found.items() if tokens}


def _of_cut_off(rollouts: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether each response token is of a response that was cut off."""
    return np.repeat(is_cut_off(rollouts), lengths(rollouts.column("response_token_ids")))


def _tokens(rollouts: pa.Table) -> int:
    return int(lengths(rollouts.column("response_token_ids")).sum())
