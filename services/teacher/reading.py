"""Requests as they come, JSON or Arrow, as what is to be scored.

Bodies are read by hand: a request is a hundred thousand integers, and those should pass from bytes to arrays
once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import UNSET, Raw, UnsetType

from rlad_core import schema
from rlad_core.client.details import Details, named_per_token
from rlad_core.client.forms import TeacherLimits
from services.serve.http.bodies import Body, to_table
from services.serve.http.json_forms import invalid, lists_in, to_form, token_ids
from services.serve.http.problems import ProblemError
from services.serve.http.texts import PromptIn, Reader, own_ids
from services.teacher.forms import DetailsQuery, ScoreRequest, SequenceIn, end_tokens
from services.teacher.shared_prompts import SharedPrompts, filled

_MESSAGES = 8
"""Of a chat, on the average of a full request: with them its objects are counted before they are built."""


@dataclass(frozen=True)
class Wanted:
    """A request that was read.

    Args:
        sequences: SEQUENCES, its values not yet checked.
        model: the model it names, if it names one.
        details: what it wants besides log-probs.
        text_rows: rows that came as text.
        tokens: whether strings and places of the response tokens are told.
    """

    sequences: pa.Table
    model: str | None
    details: Details
    text_rows: frozenset[int] = frozenset()
    tokens: bool = False

    def part(self, start: int, rows: int) -> "Wanted":
        """So many rows from one on, numbered anew."""
        texts = frozenset(row - start for row in self.text_rows if start <= row < start + rows)
        return replace(self, sequences=self.sequences.slice(start, rows), text_rows=texts)


_LISTS = ("end_token_ids", "details")


def details_of(query: Mapping[str, list[str]]) -> Details:
    """The details that the query of a job's URL asks for.

    Raises:
        pydantic.ValidationError: a value that is none; the job's route has refused it before.
    """
    given = {name: values if name in _LISTS else values[-1] for name, values in query.items()}
    return DetailsQuery.model_validate(given).asked


def read_request(
    body: Body, details: Details, reader: Reader, fingerprint: str, limits: TeacherLimits
) -> Wanted:
    """Read the body of ``POST /v1/score``.

    Args:
        details: what the query asks for, which is the only way with Arrow.
        reader: of token ids and texts.
        fingerprint: the tokenizer's, written on tables made from JSON, whose ids are taken to be its.
        limits: looked at before anything is tokenized.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form.
        LimitError: more than one request may have.
    """
    if body.encoding == "arrow":
        table = to_table(body.content)
        limits.check(table.num_rows, 0)
        table = filled(table, limits)
        return Wanted(table, None, replace(details, named_token_ids=_named_per_token(table)))
    asked = to_form(body.content, ScoreRequest, 1 + limits.max_sequences_per_request * (1 + _MESSAGES))
    ends = end_tokens(asked.end_token_ids)
    shared = SharedPrompts(asked.prompts)
    tokens = sum(
        reader.least_tokens(s.prompt_token_ids, s.prompt, s.messages, s.response_token_ids, s.response)
        + (shared.least(s.prompt_id, reader) if isinstance(s.prompt_id, str) else 0)
        for s in asked.sequences
    )
    unnamed = shared.but(sequence.prompt_id for sequence in asked.sequences)
    tokens += sum(shared.least(name, reader) for name in unnamed)
    limits.check(max(len(asked.sequences), len(asked.prompts)), tokens)
    for name in unnamed:
        shared.token_ids(name, "", reader)  # no sequence's, and wrong all the same if it is none
    ids = own_ids([sequence.id for sequence in asked.sequences])
    prompts, responses = [], []
    for place, sequence in enumerate(asked.sequences):
        where = f"sequences[{place}]"
        if isinstance(sequence.prompt_id, str):
            prompts.append(shared.token_ids(sequence.prompt_id, where, reader))
        else:
            prompts.append(reader.prompt(sequence, where))
        if isinstance(sequence.response_token_ids, Raw):
            own = token_ids(sequence.response_token_ids, f"{where}.response_token_ids", reader.max_length)
        else:
            own = reader.text(str(sequence.response), f"{where}.response")
        responses.append(own)
    columns: dict[str, Any] = {
        "sequence_id": ids, "prompt_token_ids": prompts, "response_token_ids": responses
    }  # fmt: skip
    kind = schema.SEQUENCES
    if any(sequence.named_token_ids is not UNSET for sequence in asked.sequences):
        kind = schema.NAMED_SEQUENCES
        columns["named_token_ids"] = [
            _named(sequence, own.size, f"sequences[{place}].named_token_ids", limits.max_top_k)
            for place, (sequence, own) in enumerate(zip(asked.sequences, responses, strict=True))
        ]
    try:
        table = schema.build(kind, columns, tokenizer_fingerprint=fingerprint)
    except schema.SchemaError as error:
        raise ProblemError(422, "The request cannot be worked on", str(error)) from error
    return Wanted(
        table,
        None if isinstance(asked.model, UnsetType) else asked.model,
        Details(
            max(int(asked.top_k), details.top_k),
            asked.entropy or details.entropy,
            ends or details.end_token_ids,
            asked.hidden_dtype if "hidden" in asked.details else details.hidden,
            _named_per_token(table),
            asked.plain or details.plain,
        ),
        frozenset(place for place, each in enumerate(asked.sequences) if _is_text(each, shared)),
        asked.tokens,
    )


def _named(sequence: SequenceIn, tokens: int, where: str, most: int) -> npt.NDArray[np.int32]:
    """The tokens that are named for each of so many response tokens, one place after another.

    Raises:
        ProblemError: 422, none, or not as many for each place.
    """
    named = sequence.named_token_ids
    places = bytes(named).count(b"[") - 1 if isinstance(named, Raw) else 0
    given: list[Raw] = []
    if isinstance(named, Raw) and places <= tokens:  # counted before they are built
        given = lists_in(named, where)
        places = len(given)
    if places != tokens:
        raise invalid(where, f"names tokens for {places} places, and the response has {tokens}")
    rows = [token_ids(raw, f"{where}[{place}]", most) for place, raw in enumerate(given)]
    if len({row.size for row in rows}) > 1:
        raise invalid(where, "names more tokens for one place than for another")
    return np.concatenate(rows)


def _named_per_token(table: pa.Table) -> int:
    """How many tokens are named for each place, before anything of the table is checked.

    Raises:
        ProblemError: 422, the columns that say so are not what they should be.
    """
    try:
        return named_per_token(table)
    except (KeyError, AttributeError, pa.ArrowException) as error:
        raise ProblemError(
            422, "The request cannot be worked on", f"not a NAMED_SEQUENCES table: {error}"
        ) from error


def _is_text(sequence: SequenceIn, shared: SharedPrompts) -> bool:
    """Whether anything of it has to be tokenized."""
    named = sequence.prompt_id
    source: PromptIn = shared.prompt(named) if isinstance(named, str) else sequence
    return source.prompt_token_ids is UNSET or sequence.response_token_ids is UNSET
