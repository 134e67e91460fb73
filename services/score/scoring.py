"""A file's rows, part by part, to a teacher; what it tells is kept as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rlad_core import schema
from rlad_core.client.forms import TeacherInfo
from rlad_core.data import Fault, Row, rows
from rlad_core.data.text import fault_of
from rlad_core.waiting import all_of
from services.score.asked import Asked, AskedError, Columns
from services.score.asking import Asking, Wanted
from services.score.parts import Parts, stamp_of

ROWS_PER_PART, SIZE_PER_PART = 128, 2**17
PARTS_AT_A_TIME = 4
MOST_FAULTS = 5
"""That are named of a file."""
ENCODING = "--encoding "
"""How a person names the encoding of a file's text."""


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
        for found in rows(self.path, encoding=self.encoding, setting=ENCODING, verbatim=True):
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
    return {
        **stamp_of(source.path),
        "encoding": source.encoding,
        "columns": [source.columns.prompt, source.columns.response],
        "model": [teacher.model, teacher.tokenizer_fingerprint, teacher.dtype],
        # A name may come to stand for other weights: those of the next training under it.
        "weights": teacher.made_with and teacher.made_with.weights,
        "chat template": teacher.chat_template_fingerprint,
        "options": wanted.details,
    }


async def score_parts(
    source: Source, parts: Parts, asking: Asking, on_part: Callable[[int, int, int], None]
) -> None:
    """Score what is not scored yet.

    Args:
        on_part: told of each part that is there: its rows, its tokens that were scored just now, and how
            many of its rows were refused.

    Raises:
        RefusedRowError, ServiceError, TimeoutError: see `Asking.scores`.
    """
    waiting = enumerate(source.parts())

    async def work() -> None:
        # Taken from one iterator by several: reading goes no further than what is sent.
        for number, asked in waiting:
            if (kept := parts.kept(number, len(asked))) is not None:
                refused = kept.column("teacher_logprobs").null_count
                # Those that were skipped before are asked for again where they are to matter now.
                if not refused or asking.wanted.skip_refused:
                    on_part(len(asked), 0, refused)
                    await asyncio.sleep(0)
                    continue
            scores = await asking.scores(asked)
            parts.keep(number, scores)
            told = scores.column("teacher_logprobs")
            on_part(len(asked), int(schema.lengths(told).sum()), told.null_count)

    await all_of(work() for _ in range(PARTS_AT_A_TIME))
