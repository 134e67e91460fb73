"""Requests and answers of the teacher's HTTP interface.

Bodies are read and written by hand: a request is a hundred thousand integers, and those should pass from
bytes to arrays once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from fastapi import Response
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlad_core import schema
from rlad_core.client.details import Details, HiddenDtype, named_per_token, widened
from rlad_core.client.forms import TeacherLimits
from services.serve.http.bodies import Body, arrow_answer, json_answer, lines_answer, to_table
from services.serve.http.json_forms import TokenIds, Whole, invalid, one_of, to_form, token_ids
from services.serve.http.problems import ProblemError, faults
from services.serve.http.texts import PromptIn, Reader, check_one_given, own_ids
from services.serve.http.tokenizing import spans
from services.serve.token_texts import TokenTexts
from services.teacher.shared_prompts import PROMPTS, SharedPrompt, SharedPrompts, filled

_MESSAGES = 8
"""Of a chat, on the average of a full request: with them its objects are counted before they are built."""

_MOST_END_TOKENS = 1024
"""Read of a request; how many are told is a limit of the service."""


class SequenceIn(PromptIn, forbid_unknown_fields=True, kw_only=True):
    """One response to score after its prompt: each as token ids, or as text that the service tokenizes."""

    prompt_id: (
        Annotated[
            str, Meta(min_length=1, description="In place of a prompt: one of the request's `prompts`.")
        ]
        | UnsetType
    ) = UNSET
    response_token_ids: Annotated[Raw, TokenIds] | UnsetType = UNSET
    response: (
        Annotated[
            str,
            Meta(min_length=1, description="Text as it is; write the end token where it should count."),
        ]
        | UnsetType
    ) = UNSET

    named_token_ids: (
        Annotated[
            list[Annotated[Raw, TokenIds]],
            Meta(
                min_length=1,
                description="For each response token tokens whose log-probs are wanted, everywhere so many; "
                "with response_token_ids.",
            ),
        ]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        check_one_given(self, *PROMPTS, "prompt_id")
        check_one_given(self, "response_token_ids", "response")
        if self.named_token_ids is not UNSET and self.response_token_ids is UNSET:
            raise ValueError("named_token_ids: give response_token_ids, whose places they are named for")


_ALTERNATIVES = one_of((*PROMPTS, "prompt_id"), ("response_token_ids", "response"))


class ScoreRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Responses to score."""

    model: (
        Annotated[str, Meta(description="Refused with 404 where it is not the one that is served.")]
        | UnsetType
    ) = UNSET
    top_k: Annotated[Whole, Meta(description="Also tell the k likeliest tokens at each place.")] = 0
    entropy: Annotated[bool, Meta(description="Also tell the entropy at each place, in nats.")] = False
    end_token_ids: Annotated[
        list[Whole],
        Meta(
            max_length=_MOST_END_TOKENS,
            description="Also tell the probability of these together at each place, as a log.",
            extra_json_schema={"uniqueItems": True},
        ),
    ] = []
    details: Annotated[
        Literal["hidden"] | list[Literal["hidden"]],
        Meta(description="hidden: also the hidden state after the final norm at each place."),
    ] = []
    hidden_dtype: Annotated[HiddenDtype, Meta(description="Precision in which hidden states are told.")] = (
        "float32"
    )
    tokens: Annotated[
        bool, Meta(description="Also tell the string of each response token, and where in the text it is.")
    ] = False
    prompts: Annotated[
        list[Annotated[SharedPrompt, Meta(extra_json_schema=one_of(PROMPTS))]],
        Meta(description="Of groups; a sequence names its own by `prompt_id`."),
    ] = []
    sequences: Annotated[
        list[Annotated[SequenceIn, Meta(extra_json_schema=_ALTERNATIVES)]], Meta(min_length=1)
    ]


EXAMPLE: dict[str, Any] = {
    "sequences": [
        {"id": "a", "prompt_token_ids": [11, 12, 13], "response_token_ids": [14, 15]},
        {"id": "b", "messages": [{"role": "user", "content": "Hi"}], "response": "Hello"},
    ]
}


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


class _Query(BaseModel):
    """What the query of a job asks for, as that of ``POST /v1/score`` does."""

    model_config = ConfigDict(extra="ignore")

    top_k: int = Field(default=0, ge=0)
    entropy: bool = False
    end_token_ids: tuple[int, ...] = ()
    details: tuple[Literal["hidden"], ...] = ()
    hidden_dtype: HiddenDtype = "float32"


def details_of(query: Mapping[str, list[str]]) -> Details:
    """The details that the query of a URL asks for.

    Raises:
        ProblemError: 422, a value that is none; names it.
    """
    given = {name: values if name in _LISTS else values[-1] for name, values in query.items()}
    try:
        asked = _Query.model_validate(given)
    except ValidationError as error:
        found = faults(error.errors(include_url=False, include_input=False))
        detail = f"query parameter {found[0].path}: {found[0].message}"
        raise ProblemError(422, "The request cannot be worked on", detail, found) from error
    hidden = asked.hidden_dtype if "hidden" in asked.details else None
    return Details(asked.top_k, asked.entropy, asked.end_token_ids, hidden)


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
    shared = SharedPrompts(asked.prompts)
    tokens = sum(
        reader.least_tokens(s.prompt_token_ids, s.prompt, s.messages, s.response_token_ids, s.response)
        + (shared.least(s.prompt_id, reader) if isinstance(s.prompt_id, str) else 0)
        for s in asked.sequences
    )
    limits.check(max(len(asked.sequences), len(asked.prompts)), tokens)
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
            tuple(map(int, asked.end_token_ids)) or details.end_token_ids,
            asked.hidden_dtype if "hidden" in asked.details else details.hidden,
            _named_per_token(table),
        ),
        frozenset(place for place, each in enumerate(asked.sequences) if _is_text(each, shared)),
        asked.tokens,
    )


def _named(sequence: SequenceIn, tokens: int, where: str, most: int) -> npt.NDArray[np.int32]:
    """The tokens that are named for each of so many response tokens, one place after another.

    Raises:
        ProblemError: 422, none, or not as many for each place.
    """
    given = [] if isinstance(sequence.named_token_ids, UnsetType) else sequence.named_token_ids
    if len(given) != tokens:
        raise invalid(where, f"names tokens for {len(given)} places, and the response has {tokens}")
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


def write_answer(
    wanted: Wanted, scores: pa.Table, body: Body, *, model: str, texts: TokenTexts | None = None
) -> Response:
    """The answer to `wanted`: the table as it is, or as JSON with sums and counts."""
    if body.answer == "arrow":
        return arrow_answer(scores, body)
    results = results_of(wanted, scores, texts)
    if body.answer == "ndjson":
        return lines_answer(results, body)
    usage = {
        "sequences": scores.num_rows,
        "prompt_tokens": int(schema.lengths(wanted.sequences.column("prompt_token_ids")).sum()),
        "scored_tokens": int(schema.lengths(scores.column("teacher_logprobs")).sum()),
    }
    answer = {"model": model, "policy_version": None, "results": results, "usage": usage}
    return json_answer(answer, body)


def results_of(wanted: Wanted, scores: pa.Table, texts: TokenTexts | None) -> list[dict[str, Any]]:
    """The scores of a request, or of a part of it, as JSON has them; values may be numpy arrays."""
    values, offsets = schema.flatten(scores.column("teacher_logprobs"))
    extra = _details(scores, offsets)
    results = []
    for row, (sequence_id, (start, stop)) in enumerate(
        zip(scores.column("sequence_id").to_pylist(), pairwise(offsets), strict=True)
    ):
        result = {
            "id": sequence_id,
            "logprobs": values[start:stop],
            # In float64: the sum of thousands of float32 values loses digits that a reader may compare.
            "logprob_sum": float(values[start:stop].sum(dtype=np.float64)),
            "token_count": int(stop - start),
            **{name: of_row[row] for name, of_row in extra.items()},
        }
        if row in wanted.text_rows:
            for name in ("prompt_token_ids", "response_token_ids"):
                result[name] = wanted.sequences.column(name)[row].as_py()
        if wanted.tokens:
            assert texts is not None
            ids = wanted.sequences.column("response_token_ids")[row].as_py()
            text, result["tokens"], begins = texts.pieces(ids)
            result["offsets"] = spans(begins, text)
        results.append(result)
    return results


def _details(scores: pa.Table, offsets: np.ndarray) -> dict[str, list[Any]]:
    """The columns ``entropy`` and ``top`` of the answer by row, where the table has them."""
    found: dict[str, list[Any]] = {}
    present = [name for name in scores.column_names if scores.column(name).null_count == 0]
    if "entropy" in present:
        values, _ = schema.flatten(scores.column("entropy"))
        found["entropy"] = [values[start:stop] for start, stop in pairwise(offsets)]
    if "teacher_end_logprobs" in present:
        values, _ = schema.flatten(scores.column("teacher_end_logprobs"))
        found["end_logprobs"] = [values[start:stop] for start, stop in pairwise(offsets)]
    if "named_logprobs" in present:
        values, bounds = schema.flatten(scores.column("named_logprobs"))
        found["named_logprobs"] = _by_place(values, bounds, offsets)
    for name in {"hidden_states", "hidden_states_bfloat16"} & set(present):
        values, bounds = schema.flatten(scores.column(name))
        found["hidden_states"] = _by_place(widened(values), bounds, offsets)
    if "top_token_ids" in present:
        ids, _ = schema.flatten(scores.column("top_token_ids"))
        logprobs, _ = schema.flatten(scores.column("top_logprobs"))
        k = ids.size // max(1, int(offsets[-1]))
        # Written row by row: as Python objects they take some ten times the memory, and one row's at a time.
        found["top"] = [
            orjson.Fragment(_tops(ids[k * start : k * stop], logprobs[k * start : k * stop], k))
            for start, stop in pairwise(offsets)
        ]
    return found


def _by_place(values: np.ndarray, bounds: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    """Of each row [response tokens, several]; `bounds` are rows of `values`, `offsets` of tokens."""
    rows = zip(pairwise(bounds), np.diff(offsets), strict=True)
    return [values[start:stop].reshape(tokens, -1) for (start, stop), tokens in rows]


def _tops(ids: np.ndarray, logprobs: np.ndarray, k: int) -> bytes:
    """The JSON of one row's ``top``; both arrays are [response tokens x k]."""
    return orjson.dumps(
        [
            [{"token_id": int(i), "logprob": float(p)} for i, p in zip(*place, strict=True)]
            for place in zip(ids.reshape(-1, k), logprobs.reshape(-1, k), strict=True)
        ]
    )
