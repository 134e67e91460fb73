"""A visit's life: what became of one draw of a prompt, for the run's ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from rlad_core.client.made_with import made_with_of
from rlad_core.config.run import REFERENCE
from rlad_core.prompt_stream import PromptStream
from rlad_core.tasks import Prompt

if TYPE_CHECKING:  # the journal, which reads visits, has no use for Serve
    from services.experience.groups import Group

Outcome = Literal["trained", "dropped"]
Writer = Literal["policy", "teacher", "task"]
_WHY = {"policy": "all rewards are equal", "teacher": "no response was right and whole"}


@dataclass(frozen=True)
class Visit:
    """One draw of a prompt, when it is over.

    Attributes:
        position: in the run's stream of prompts, counted from 0: the visit's number.
        epoch_prompts: of which each epoch of the stream consists.
        group_id, prompt_id, task: of its prompt.
        outcome, why: trained on, or dropped and why.
        by: who wrote its responses: policy, teacher or task.
        sampled: tokens of its responses by the policy version that sampled them; empty where another wrote.
        stale_masked: how many of them, the oldest, were too old to count when it was trained on.
        responses: how many.
        teacher, teacher_weights: who scored it, by its place in the recipe, and the hash of its weights (None
            where it does not say); both None where nobody did, or the learner itself asked an older policy.
            Of several that were mixed, joined by " + ".
        reference_weights: the same of the frozen reference.
        rewards, correct: what the verifier said of each response.
    """

    position: int
    epoch_prompts: int
    group_id: str
    prompt_id: str
    task: str
    outcome: Outcome
    why: str = ""
    by: Writer = "policy"
    sampled: Mapping[int, int] = field(default_factory=dict)
    stale_masked: int = 0
    responses: int = 0
    teacher: str | None = None
    teacher_weights: str | None = None
    reference_weights: str | None = None
    rewards: Sequence[float] = ()
    correct: Sequence[bool] = ()

    @property
    def epoch(self) -> int:
        """Of the stream, counted from 0."""
        return self.position // self.epoch_prompts


def visits_of(
    kept: Sequence[Group],
    dropped: Sequence[Group],
    stream: PromptStream,
    by: Writer,
    stale_masked: Mapping[str, int],
) -> list[Visit]:
    """The visits of a step's groups, in the order of their positions.

    Args:
        kept: are trained on.
        dropped: are not.
        by: who wrote the responses.
        stale_masked: tokens of trained groups that are too old to count, by the group's id.
    """
    groups = sorted([*kept, *dropped], key=lambda group: group.position)
    trained = {group.position for group in kept}
    prompts = stream.prompts([group.position for group in groups])
    return [
        Visit(
            position=group.position,
            epoch_prompts=stream.epoch_prompts,
            group_id=group.group_id,
            prompt_id=prompt.prompt_id,
            task=prompt.task,
            outcome="trained" if group.position in trained else "dropped",
            why="" if group.position in trained else _WHY[by],
            by=by,
            sampled=group.tokens_by_version if by == "policy" else {},
            stale_masked=stale_masked.get(group.group_id, 0),
            responses=len(group.rollouts),
            teacher=" + ".join(teachers) or None,
            teacher_weights=_all_weights([group.told[place].scores for place in teachers]),
            reference_weights=_weights(group.reference_scores),
            rewards=group.rewards.column("reward").to_pylist(),
            correct=group.rewards.column("correct").to_pylist(),
        )
        for group, prompt in zip(groups, prompts, strict=True)
        for teachers in [[place for place in group.told if place != REFERENCE]]
    ]


def solved(
    positions: Sequence[int], group_ids: Sequence[str], prompts: Sequence[Prompt], epoch_prompts: int
) -> list[Visit]:
    """The visits of prompts whose tasks' own solutions are trained on."""
    return [
        Visit(
            position, epoch_prompts, group, prompt.prompt_id, prompt.task, "trained", by="task", responses=1
        )
        for position, group, prompt in zip(positions, group_ids, prompts, strict=True)
    ]


def _all_weights(scores: Sequence[pa.Table]) -> str | None:
    """Of several teachers one after another, where all say it."""
    found = [_weights(each) for each in scores]
    return " + ".join(filter(None, found)) if found and all(found) else None


def _weights(scores: pa.Table | None) -> str | None:
    made_with = None if scores is None else made_with_of(scores)
    return None if made_with is None else made_with.weights
