"""What a teacher tells of rows: asked for together, and one by one where it refuses some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.client import AsyncTeacherClient, SequenceScore
from rlad_core.client.errors import InvalidRequestError, LimitError
from rlad_core.client.forms import TeacherInfo
from rlad_core.client.made_with import refuse_different
from services.score.asked import Asked

_FLOATS, _TOKENS = pa.list_(pa.float32()), pa.list_(pa.int32())
SCORES = pa.schema(
    {
        "teacher_logprobs": _FLOATS,
        "response_token_ids": _TOKENS,
        "entropy": _FLOATS,
        "top_token_ids": pa.list_(_TOKENS),
        "top_logprobs": pa.list_(_FLOATS),
    }
)
"""Of a part: a row for each of the file's, null where the teacher refused it and that was not to matter."""


@dataclass(frozen=True)
class Wanted:
    """What is told of each response.

    Args:
        top_k, entropy: see `AsyncTeacherClient.score`.
        skip_refused: whether a response that the teacher refuses gets nulls, and ends nothing.
    """

    top_k: int = 0
    entropy: bool = False
    skip_refused: bool = False

    @property
    def details(self) -> dict[str, Any]:
        """As `AsyncTeacherClient` wants it."""
        return {"top_k": self.top_k, "entropy": self.entropy}


class RefusedRowError(Exception):
    """The teacher refuses a row; the message says which and why."""


class Asking:
    """A teacher that is asked for the scores of one file.

    Args:
        client: of the teacher.
        teacher: what it said of itself; what answers otherwise later is another one.
        wanted: of each response.
    """

    def __init__(self, client: AsyncTeacherClient, teacher: TeacherInfo, wanted: Wanted) -> None:
        self._client, self._teacher, self.wanted = client, teacher, wanted
        self.first_refused = ""
        """Which row it refused first, and why; empty: none."""

    async def scores(self, asked: Sequence[Asked]) -> pa.Table:
        """SCORES of rows, in order.

        Raises:
            RefusedRowError: the teacher refuses one, and that is to matter.
            MixedError: another teacher answered.
            ServiceError, TimeoutError: see `AsyncTeacherClient.score`.
        """
        for each in asked:
            if each.unfit:
                self._note_refused(each, each.unfit)
        told = iter(await self._rows([each for each in asked if not each.unfit]))
        return pa.Table.from_pylist([{} if each.unfit else next(told) for each in asked], SCORES)

    async def _rows(self, asked: Sequence[Asked]) -> list[dict[str, Any]]:
        """Of SCORES; an empty one for what is refused."""
        try:
            return await self._told(asked)
        except (InvalidRequestError, LimitError) as error:
            if len(asked) == 1:
                # Another one may refuse what this one takes.
                now = await self._client.info()
                refuse_different([now.made_with], now.model, self._teacher.made_with)
                self._note_refused(asked[0], str(error))
                return [{}]
        # Which of them it is, the teacher tells by a place in the request, if at all.
        half = len(asked) // 2
        return [*await self._rows(asked[:half]), *await self._rows(asked[half:])]

    def _note_refused(self, each: Asked, why: str) -> None:
        said = f"{each.where}: {why}"
        if not self.wanted.skip_refused:
            raise RefusedRowError(said)
        self.first_refused = self.first_refused or said

    async def _told(self, asked: Sequence[Asked]) -> list[dict[str, Any]]:
        options = {**self.wanted.details, "made_with": self._teacher.made_with}
        found: dict[int, dict[str, Any]] = {}
        tokens = [place for place, each in enumerate(asked) if each.is_tokens]
        texts = [place for place, each in enumerate(asked) if not each.is_tokens]
        if texts:
            pairs = [(asked[place].prompt, asked[place].response) for place in texts]
            scored = await self._client.score_texts(pairs, **options)
            found |= {place: _of_text(score) for place, score in zip(texts, scored, strict=True)}
        if tokens:
            table = schema.build(
                schema.SEQUENCES,
                {
                    "sequence_id": [str(place) for place in tokens],
                    "prompt_token_ids": [asked[place].prompt for place in tokens],
                    "response_token_ids": [asked[place].response for place in tokens],
                },
                tokenizer_fingerprint=self._teacher.tokenizer_fingerprint,
            )
            told = (await self._client.score(table, **options)).to_pylist()
            k = self.wanted.top_k
            found |= {place: _of_tokens(row, k) for place, row in zip(tokens, told, strict=True)}
        return [found[place] for place in range(len(asked))]


def _of_text(score: SequenceScore) -> dict[str, Any]:
    top = score.top
    return {
        "teacher_logprobs": score.logprobs,
        "response_token_ids": score.response_token_ids,
        "entropy": score.entropy,
        "top_token_ids": top and [[each.token_id for each in place] for place in top],
        "top_logprobs": top and [[each.logprob for each in place] for place in top],
    }


def _of_tokens(row: dict[str, Any], k: int) -> dict[str, Any]:
    """A row of TEACHER_SCORES or TEACHER_DETAILS, whose likeliest tokens are one list."""
    told = {name: row.get(name) for name in ("teacher_logprobs", "entropy")}
    for name in ("top_token_ids", "top_logprobs") if k else ():
        told[name] = np.asarray(row[name]).reshape(-1, k).tolist()
    return told
