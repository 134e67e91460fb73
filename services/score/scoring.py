"""A file's rows, part by part, to a teacher; what it tells is kept as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.client import AsyncTeacherClient, SequenceScore
from rlad_core.client.errors import InvalidRequestError, LimitError
from rlad_core.client.forms import TeacherInfo
from rlad_core.data import Fault, Row, files_of, rows
from rlad_core.data.text import fault_of
from rlad_core.waiting import all_of
from services.score.asked import Asked, AskedError, Columns
from services.score.parts import Parts

ROWS_PER_PART, SIZE_PER_PART = 128, 2**17
PARTS_AT_A_TIME = 4
MOST_FAULTS = 5
"""That are named of a file."""

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
class Source:
    """A data file and how it is read.

    Args:
        path, encoding: as of `rlad_core.data.rows`.
        columns: with prompt and response.
    """

    path: str
    columns: Columns
    encoding: str | None = None

    def parts(self, on_row: Callable[[Row], None] | None = None) -> Iterator[list[Asked]]:
        """Its rows in parts, the same each time.

        Args:
            on_row: told of each row that can be read.

        Raises:
            AskedError: rows cannot be read or hold nothing to score; names the first ones.
            DataError: the file cannot be read.
        """
        part: list[Asked] = []
        size = 0
        wrong: list[str] = []
        for found in rows(self.path, encoding=self.encoding):
            try:
                if isinstance(found, Fault):
                    raise AskedError(f"{found.where}: {found.reason}")
                if on_row is not None:
                    on_row(found)
                _refuse_odd(found)
                asked = self.columns.asked(found)
            except AskedError as error:
                wrong.append(str(error))
                if len(wrong) == MOST_FAULTS:
                    break
                continue
            if part and (len(part) == ROWS_PER_PART or size + asked.size > SIZE_PER_PART):
                if not wrong:
                    yield part
                part, size = [], 0
            part.append(asked)
            size += asked.size
        if wrong:
            raise AskedError("\n".join(wrong))
        if part:
            yield part


def _refuse_odd(row: Row) -> None:
    """Half a character, in whatever column, can neither be sent nor written; JSON can spell one."""
    for name, value in row.values.items():
        if fault := fault_of(json.dumps({name: value}, ensure_ascii=False, default=str)):
            named = name.encode(errors="backslashreplace").decode()  # the name's half could not be printed
            raise AskedError(f"{row.where}: {named} {fault}")


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


class UntoldError(Exception):
    """The teacher does not tell what is wanted, of whatever row; the message says what to do."""


def refuse_untold(wanted: Wanted, has_chats: bool, teacher: TeacherInfo) -> None:
    """Find what the teacher would refuse each row for, before it is asked for one.

    Raises:
        UntoldError: there is something.
    """
    if wanted.entropy and "entropy" not in teacher.details:
        raise UntoldError(
            f"--entropy: engine {teacher.engine} of {teacher.model} does not tell it; engine torch does"
        )
    if wanted.top_k and "top_k" not in teacher.details:
        raise UntoldError(f"--top-k: engine {teacher.engine} of {teacher.model} does not tell it")
    if wanted.top_k > (most := teacher.limits.max_top_k):
        raise UntoldError(
            f"--top-k {wanted.top_k}: {teacher.model} tells at most {most}; its service has a setting for "
            "it, limits.max_top_k"
        )
    if wanted.top_k > (most := teacher.vocab_size):
        raise UntoldError(f"--top-k {wanted.top_k}: {teacher.model} has {most} tokens")
    if has_chats and teacher.chat_template_fingerprint is None:
        raise UntoldError(
            f"{teacher.model} has no chat template, and there are chats: score text, or token ids "
            "(prompt_token_ids, response_token_ids)"
        )


def asked_of(source: Source, wanted: Wanted, teacher: TeacherInfo) -> dict[str, Any]:
    """What decides the scores, for `Parts`: parts of other rows or of another teacher are not mixed."""
    files = files_of(source.path)
    return {
        "file": {str(each.absolute()): each.stat().st_size for each in files},
        "last change": max(each.stat().st_mtime_ns for each in files),
        "encoding": source.encoding,
        "columns": [source.columns.prompt, source.columns.response],
        "model": [teacher.model, teacher.tokenizer_fingerprint, teacher.dtype],
        # A name may come to stand for other weights: those of the next training under it.
        "weights": teacher.made_with and teacher.made_with.weights,
        "chat template": teacher.chat_template_fingerprint,
        "options": {**wanted.details, "skip_refused": wanted.skip_refused},
    }


async def score_parts(
    source: Source,
    parts: Parts,
    client: AsyncTeacherClient,
    wanted: Wanted,
    on_part: Callable[[int, int, int], None],
) -> None:
    """Score what is not scored yet.

    Args:
        on_part: told of each part that is there: its rows, its tokens that were scored just now, and how
            many of its rows were refused.

    Raises:
        ServiceError: what the teacher refuses or fails, with the row at fault.
        TimeoutError: it did not answer in time.
    """
    waiting = enumerate(source.parts())

    async def work() -> None:
        # Taken from one iterator by several: reading goes no further than what is sent.
        for number, asked in waiting:
            if parts.has(number):
                on_part(len(asked), 0, parts.scores(number).column("teacher_logprobs").null_count)
                await asyncio.sleep(0)
                continue
            scores = await _scores(client, asked, wanted)
            parts.keep(number, scores)
            told = scores.column("teacher_logprobs")
            on_part(len(asked), int(schema.lengths(told).sum()), told.null_count)

    await all_of(work() for _ in range(PARTS_AT_A_TIME))


async def _scores(client: AsyncTeacherClient, asked: Sequence[Asked], wanted: Wanted) -> pa.Table:
    fit = [each for each in asked if not each.unfit]
    if len(fit) < len(asked):
        if not wanted.skip_refused:
            unfit = next(each for each in asked if each.unfit)
            raise InvalidRequestError(f"{unfit.where}: {unfit.unfit}")
        scored = iter((await _scores(client, fit, wanted)).to_pylist() if fit else ())
        return pa.Table.from_pylist([{} if each.unfit else next(scored) for each in asked], SCORES)
    try:
        found = await _told(client, asked, wanted)
    except (InvalidRequestError, LimitError) as error:
        if len(asked) == 1 and not wanted.skip_refused:
            raise type(error)(*_with_place(error, asked[0].where)) from error
        if len(asked) == 1:
            return pa.Table.from_pylist([{}], SCORES)
        # Which of them it is, the teacher tells by a place in the request, if at all.
        return pa.concat_tables([await _scores(client, [each], wanted) for each in asked])
    return pa.Table.from_pylist(found, SCORES)


async def _told(client: AsyncTeacherClient, asked: Sequence[Asked], wanted: Wanted) -> list[dict[str, Any]]:
    """SCORES of rows, in order."""
    found: dict[int, dict[str, Any]] = {}
    tokens = [place for place, each in enumerate(asked) if each.is_tokens]
    texts = [place for place, each in enumerate(asked) if not each.is_tokens]
    if texts:
        pairs = [(asked[place].prompt, asked[place].response) for place in texts]
        scored = await client.score_texts(pairs, **wanted.details)
        found |= {place: _of_text(score) for place, score in zip(texts, scored, strict=True)}
    if tokens:
        info = await client.info()
        table = schema.build(
            schema.SEQUENCES,
            {
                "sequence_id": [str(place) for place in tokens],
                "prompt_token_ids": [asked[place].prompt for place in tokens],
                "response_token_ids": [asked[place].response for place in tokens],
            },
            tokenizer_fingerprint=info.tokenizer_fingerprint,
        )
        told = (await client.score(table, **wanted.details)).to_pylist()
        found |= {place: _of_tokens(row, wanted.top_k) for place, row in zip(tokens, told, strict=True)}
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


def _with_place(error: Exception, where: str) -> tuple[str, ...]:
    said = f"{where}: {error}"
    return ("sequences", said) if isinstance(error, LimitError) else (said,)
