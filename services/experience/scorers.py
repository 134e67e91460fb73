"""Who scores a group's responses: the teachers of its prompt, and the frozen reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from rlad_core import schema
from rlad_core.config.run import REFERENCE
from rlad_core.config.teachers import Manner
from rlad_core.metric_specs import StepStage
from rlad_core.mixture import mixed
from rlad_core.schema import lengths, to_named_sequences, to_sequences
from services.base.telemetry import span
from services.clients.teachers import Teacher


def stage_of(place: str) -> StepStage:
    """The stage whose time a scorer takes, by its place in the recipe: a frozen reference is no teacher."""
    return "reference" if place == REFERENCE else "teacher"


@dataclass(frozen=True)
class Scorer:
    """One of them.

    Attributes:
        place: in the recipe.
        teacher: asked.
        weight: what it counts among the prompt's teachers.
        prompt_token_ids: what it reads in the prompt's place; None: the prompt.
        end_tokens: whose probability together it is asked for; none: it is not.
        top_k: how many of its likeliest tokens it is asked for at each place.
        policy_top_k: about how many of the policy's likeliest ones.
    """

    place: str
    teacher: Teacher
    weight: float = 1.0
    prompt_token_ids: Sequence[int] | None = None
    end_tokens: Sequence[int] = ()
    top_k: int = 0
    policy_top_k: int = 0

    def reads(self, rollouts: pa.Table) -> pa.Table:
        """SEQUENCES of these responses as it reads them."""
        return self._read(to_sequences(rollouts))

    def _read(self, sequences: pa.Table) -> pa.Table:
        """With its own prompt."""
        if self.prompt_token_ids is None:
            return sequences
        name = "prompt_token_ids"
        place, kind = sequences.column_names.index(name), sequences.schema.field(name)
        same = schema.list_column([self.prompt_token_ids] * len(sequences), kind.type)
        return sequences.set_column(place, kind, same)

    async def score(self, rollouts: pa.Table) -> pa.Table:
        """Its TEACHER_SCORES of these responses, or TEACHER_DETAILS."""
        named = to_named_sequences(rollouts) if self.policy_top_k else to_sequences(rollouts)
        sequences = self._read(named)
        tokens = int(lengths(sequences.column("response_token_ids")).sum())
        with span(stage_of(self.place), items=len(sequences), tokens=tokens):
            return await self.teacher.score(sequences, self.end_tokens, self.top_k)


@dataclass(frozen=True)
class Told:
    """What one of them said of a group.

    read: SEQUENCES, as it read them. scores: TEACHER_SCORES or TEACHER_DETAILS of them.
    """

    read: pa.Table
    scores: pa.Table


def together(scorers: Sequence[Scorer], told: Sequence[Told], manner: Manner) -> pa.Table | None:
    """The scores that a group is trained on; None where nobody scored it.

    Args:
        scorers, told: of the prompt's teachers.
        manner: of a mixture.
    """
    if not told:
        return None
    if len(told) == 1:
        return told[0].scores
    return mixed([each.scores for each in told], [scorer.weight for scorer in scorers], manner)
