"""What a teacher said when a run began: what its scores are made with, and those of a few known texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.made_with import MadeWith, made_with_of
from services.clients.teachers.agreement import Logprobs
from services.clients.teachers.interface import Teacher


@dataclass(frozen=True)
class Pinned:
    """What a teacher said at the start of a run.

    made_with: None where it does not say. known: SEQUENCES. logprobs: of each of them.
    """

    made_with: MadeWith | None
    known: pa.Table
    logprobs: tuple[Logprobs, ...]

    def saved(self) -> dict[str, Any]:
        """For a checkpoint's state file."""
        return {
            "made_with": None if self.made_with is None else self.made_with.model_dump(),
            "tokenizer": schema.fingerprint_of(self.known),
            "prompts": self.known.column("prompt_token_ids").to_pylist(),
            "responses": self.known.column("response_token_ids").to_pylist(),
            "logprobs": [each.tolist() for each in self.logprobs],
        }

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> Pinned:
        """From what `saved` gave."""
        made_with = saved["made_with"]
        return cls(
            None if made_with is None else MadeWith.model_validate(made_with),
            known_texts(zip(saved["prompts"], saved["responses"], strict=True), saved["tokenizer"]),
            tuple(np.asarray(each, dtype=np.float32) for each in saved["logprobs"]),
        )


async def pin(teacher: Teacher, known: pa.Table) -> Pinned:
    """What a teacher says now, to be compared with all that it says later.

    Args:
        known: SEQUENCES, see `known_texts`.
    """
    scores = await teacher.score(known)
    return Pinned(made_with_of(scores), known, tuple(rows_of(scores, "teacher_logprobs")))


def known_texts(pairs: Iterable[tuple[Sequence[int], Sequence[int]]], fingerprint: str) -> pa.Table:
    """SEQUENCES of some (prompt, response), by token ids."""
    rows = list(pairs)
    return schema.build(
        schema.SEQUENCES,
        {
            "sequence_id": [f"known text {place}" for place in range(len(rows))],
            "prompt_token_ids": [list(prompt) for prompt, _ in rows],
            "response_token_ids": [list(response) for _, response in rows],
        },
        tokenizer_fingerprint=fingerprint,
    )


def rows_of(scores: pa.Table, column: str) -> list[Logprobs]:
    """The values of each row of a column of lists."""
    values, offsets = schema.flatten(scores.column(column))
    return [values[start:stop] for start, stop in pairwise(offsets)]
