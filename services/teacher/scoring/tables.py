"""Between Arrow tables and an engine's pairs: each sequence scored once, equal prompts side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.details import NO_DETAILS, Details, answer_schema, names_tokens
from rlad_core.client.errors import InvalidRequestError, RowError
from rlad_core.client.forms import TeacherLimits
from rlad_core.schema import validation
from services.serve.unfit_tables import named, refusal
from services.teacher.scoring.interface import Scored, ScoringEngine, ScoringError, TokenIds, TokenPair


@dataclass(frozen=True)
class Pairs:
    """The different (prompt, response) pairs of a table, those of one prompt next to each other.

    Args:
        pairs: equal prompts are one array object.
        row_to_pair: int64 [rows], which pair each row of the table is.
    """

    pairs: list[TokenPair]
    row_to_pair: npt.NDArray[np.int64]


def check_sequences(
    table: pa.Table, *, vocab_size: int, max_length: int, tokenizer_fingerprint: str | None
) -> None:
    """Refuse a table that an engine could not score.

    Raises:
        InvalidRequestError: not a SEQUENCES or NAMED_SEQUENCES table; made with another tokenizer; an empty
            prompt or response, a token id outside the vocabulary or a sequence too long, which is then named
            by its id.
    """
    try:
        schema.validate(
            table,
            schema.NAMED_SEQUENCES if names_tokens(table) else schema.SEQUENCES,
            vocab_size=vocab_size,
            tokenizer_fingerprint=tokenizer_fingerprint,
        )
    except schema.SchemaError as error:
        raise refusal(error, "sequences", table) from error
    lengths = schema.lengths(table.column("prompt_token_ids")) + schema.lengths(
        table.column("response_token_ids")
    )
    if (too_long := np.flatnonzero(lengths > max_length)).size:
        row = int(too_long[0])
        raise RowError(
            f"{named(table, row)}prompt and response have {lengths[row]} tokens together, and this teacher "
            f"takes {max_length} at most ({too_long.size} sequences are too long)",
            "sequences",
            row,
        )


def check_columns(table: pa.Table) -> None:
    """Refuse a table that has no columns of sequences, whatever is in its rows.

    Raises:
        InvalidRequestError: not a SEQUENCES or NAMED_SEQUENCES table.
    """
    try:
        validation.check_columns(table, schema.NAMED_SEQUENCES if names_tokens(table) else schema.SEQUENCES)
    except schema.SchemaError as error:
        raise refusal(error, "sequences", table) from error


def check_details(details: Details, engine: ScoringEngine, name: str, limits: TeacherLimits) -> None:
    """Refuse to tell what the engine does not, or more than a request may have.

    Args:
        name: of the engine.

    Raises:
        InvalidRequestError: names the field.
    """
    if unknown := sorted(details.fields - engine.tells):
        raise InvalidRequestError(f"engine {name} does not tell it; engine torch does", unknown[0])
    if details.plain and (others := sorted(details.fields - {"plain", "end_token_ids"})):
        raise InvalidRequestError("is not told with plain, which tells log-probs alone", others[0])
    for field, asked in (("top_k", details.top_k), ("named_token_ids", details.named_token_ids)):
        if asked > limits.max_top_k:
            raise InvalidRequestError(f"{asked} is over {limits.max_top_k}, the most told here", field)
    if details.top_k > engine.vocab_size:
        raise InvalidRequestError(
            f"{details.top_k} is more than the {engine.vocab_size} tokens that the model has", "top_k"
        )
    ends = details.end_token_ids
    if len(ends) > limits.max_end_token_ids:
        raise InvalidRequestError(
            f"{len(ends)} ids, and {limits.max_end_token_ids} are the most told here", "end_token_ids"
        )
    if len(set(ends)) < len(ends):
        raise InvalidRequestError("an id is there twice", "end_token_ids")
    if wrong := [each for each in ends if not 0 <= each < engine.vocab_size]:
        raise InvalidRequestError(
            f"{wrong[0]} is no token; the vocabulary has ids 0..{engine.vocab_size - 1}", "end_token_ids"
        )


def to_pairs(table: pa.Table, details: Details = NO_DETAILS) -> Pairs:
    """The pairs of a checked SEQUENCES or NAMED_SEQUENCES table, all asking for the same details."""
    by_prompt: dict[bytes, tuple[TokenIds, dict[tuple[bytes, ...], tuple[int, list[int]]]]] = {}
    prompts, responses = (_rows(table.column(c)) for c in ("prompt_token_ids", "response_token_ids"))
    named = _rows(table.column("named_token_ids")) if details.named_token_ids else None
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        _, same_prompt = by_prompt.setdefault(prompt.tobytes(), (prompt, {}))
        key = (response.tobytes(),) if named is None else (response.tobytes(), named[row].tobytes())
        same_prompt.setdefault(key, (row, []))[1].append(row)
    pairs: list[TokenPair] = []
    row_to_pair = np.empty(table.num_rows, dtype=np.int64)
    for prompt, same_prompt in by_prompt.values():
        for first, rows in same_prompt.values():
            row_to_pair[rows] = len(pairs)
            ids = None if named is None else named[first].reshape(-1, details.named_token_ids)
            pairs.append(TokenPair(prompt, responses[first], details, named=ids))
    return Pairs(pairs, row_to_pair)


def to_scores(
    table: pa.Table, pairs: Pairs, scored: Sequence[Scored], details: Details = NO_DETAILS
) -> pa.Table:
    """TEACHER_SCORES of a SEQUENCES table, row by row, from the scores of its pairs; TEACHER_DETAILS where
    details were asked for that only it has.

    Raises:
        ScoringError: the engine left something out, gave the wrong number of values, or one that breaks its
            rule, such as a log-prob above 0; names the sequence.
    """
    rows = [scored[pair] for pair in pairs.row_to_pair]
    kind = answer_schema(details)
    try:
        told = schema.token_columns("teacher", [row.values for row in rows], asked=details.columns)
        columns = {"sequence_id": table.column("sequence_id"), **told}
        return schema.build(kind, columns, tokenizer_fingerprint=schema.fingerprint_of(table))
    except schema.SchemaError as error:
        raise ScoringError(f"{named(table, error.row)}the engine's answer cannot be used: {error}") from error


def _rows(column: pa.ChunkedArray) -> list[TokenIds]:
    values, offsets = schema.flatten(column)
    return [values[start:stop] for start, stop in pairwise(offsets)]
