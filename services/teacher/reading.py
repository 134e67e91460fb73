"""Requests as they come, JSON or Arrow, as what is to be scored.

Bodies are read by hand: a request is a hundred thousand integers, and those should pass from bytes to arrays
once.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import UnsetType

from rlad_core import schema
from rlad_core.client.details import Details, named_per_token, names_tokens
from rlad_core.client.forms import TeacherLimits
from services.serve.http.bodies import Body, to_table
from services.serve.http.elements import Elements
from services.serve.http.json_forms import to_form
from services.serve.http.texts import Reader
from services.serve.unfit_tables import refusal
from services.teacher.asked import asked_for
from services.teacher.forms import DetailsQuery, SequenceIn, UnreadRequest
from services.teacher.rows import response_spans, to_rows
from services.teacher.scoring.tables import check_columns
from services.teacher.shared_prompts import SharedPrompt, SharedPrompts, filled

_MESSAGES = 8
"""Of a chat, on the average of a full request: with them its objects are counted before they are built."""


@dataclass(frozen=True)
class Wanted:
    """A request that was read.

    Args:
        sequences: SEQUENCES, its values not yet checked.
        model: the model it names, if it names one.
        details: what it wants besides log-probs.
        text_rows: bool [rows], which came as text; empty: none of them.
        tokens: whether strings and places of the response tokens are told.
        spans: of each row these places in its response as it was sent, int32 [tokens, 2]; None: in what its
            tokens decode to. Empty where `tokens` is false.
    """

    sequences: pa.Table
    model: str | None
    details: Details
    text_rows: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    tokens: bool = False
    spans: list[npt.NDArray[np.int32] | None] = field(default_factory=list)

    def part(self, start: int, rows: int) -> "Wanted":
        """So many rows from one on, numbered anew."""
        its = slice(start, start + rows)
        return replace(
            self,
            sequences=self.sequences.slice(start, rows),
            text_rows=self.text_rows[its],
            spans=self.spans[its],
        )


def read_request(
    body: Body, query: DetailsQuery, reader: Reader, fingerprint: str, limits: TeacherLimits
) -> Wanted:
    """Read the body of ``POST /v1/score``.

    Args:
        query: which is the only way to ask for details with Arrow.
        reader: of token ids and texts.
        fingerprint: the tokenizer's, written on tables made from JSON, whose ids are taken to be its.
        limits: looked at before anything is tokenized, and while it is.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form.
        InvalidRequestError: the same of a table.
        LimitError: more than one request may have.
    """
    if body.encoding == "arrow":
        table = to_table(body.content)
        limits.check(table.num_rows, 0)
        table = filled(table, limits)
        return Wanted(table, None, replace(query.asked, named_token_ids=_named_per_token(table)))
    asked = to_form(body.content, UnreadRequest, 1 + limits.max_sequences_per_request * (1 + _MESSAGES))
    details = asked_for(asked, query)
    most = limits.max_sequences_per_request
    sequences = Elements(asked.sequences, SequenceIn, "sequences", most)
    sequences.refuse_none()
    shared = SharedPrompts(Elements(asked.prompts, SharedPrompt, "prompts", most), reader)
    try:
        table, texts, left_out = to_rows(sequences, shared, reader, fingerprint, limits)
    except schema.SchemaError as error:
        raise refusal(error, "sequences") from error
    return Wanted(
        table,
        None if isinstance(asked.model, UnsetType) else asked.model,
        replace(details, named_token_ids=_named_per_token(table)),
        texts,
        asked.tokens,
        # Here and not where answers are written: that is in the event loop where they are told line by line.
        response_spans(sequences, table, left_out, reader) if asked.tokens else [],
    )


def _named_per_token(table: pa.Table) -> int:
    """How many tokens are named for each place, before the rows are checked.

    Raises:
        InvalidRequestError: the columns that say so are not what they should be.
    """
    if names_tokens(table):
        check_columns(table)
    return named_per_token(table)
