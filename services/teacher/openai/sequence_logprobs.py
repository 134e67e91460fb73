"""``POST /get_sequence_logprobs/``: how TRL's clients up to 1.10 ask a remote teacher.

Later ones ask ``/v1/completions`` with ``prompt_logprobs``. The answer has the likeliest tokens at each place
of a completion, as nested lists or as arrays in base64. A completion that begins at the first token of its
sequence has nothing at that place, since no log-prob is defined there.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import Response
from msgspec import Meta, Raw, Struct
from pydantic import BaseModel, Field

from rlad_core.client.details import Details
from rlad_core.client.forms import TeacherLimits
from services.serve.http.bodies import Body, json_answer, only_json
from services.serve.http.json_forms import ListsOfTokenIds, decode, invalid, lists_in, to_form, token_ids
from services.serve.http.texts import Reader, refuse_over
from services.serve.openai.logprobs import check_top
from services.serve.openai.numbers import AnyCount, Count, as_integers
from services.teacher.openai.places import Place, places
from services.teacher.scoring.interface import Scored, TokenPair

_OBJECTS = 16
_DEFAULT_TOP = 100
_Sequences = Meta(
    extra_json_schema=ListsOfTokenIds,
    description="Prompt and completion together, as token ids.",
)
_Lengths = Meta(
    extra_json_schema={"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
    description="Of each sequence the tokens that are its prompt.",
)


class SequenceLogprobsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Completions to score."""

    sequences: Annotated[Raw, _Sequences]
    prompt_lengths: Annotated[Raw, _Lengths]
    top_logprobs: Annotated[Count, Meta(description="Likeliest tokens that are told at each place.")] = (
        _DEFAULT_TOP
    )
    temperature: Annotated[float, Meta(ge=1, le=1, description="Log-probs are those of temperature 1.")] = 1.0
    response_format: Literal["json", "binary"] = "json"

    def __post_init__(self) -> None:
        as_integers(self, frozenset({"temperature"}))


EXAMPLE: dict[str, Any] = {"sequences": [[11, 12, 13, 14]], "prompt_lengths": [2], "top_logprobs": 1}


class SequenceLogprobs(BaseModel):
    """The likeliest tokens at each place of each completion: two lists, or arrays in base64."""

    logprobs: list[list[list[float]]] | None = Field(
        default=None,
        description="Likeliest first; the completion's own token last where it is not among them.",
    )
    logprob_token_ids: list[list[list[int]]] | None = None
    logprobs_b64: str | None = Field(
        default=None, description="float32 of `shape`, -inf where nothing is told; the others int32."
    )
    token_ids_b64: str | None = None
    actual_logprobs_b64: str | None = Field(
        default=None, description="Of the completion's own tokens, one a place."
    )
    actual_token_ids_b64: str | None = None
    shape: list[int] | None = Field(default=None, description="Sequences, longest completion, top_logprobs.")
    completion_lengths: list[int] | None = None


@dataclass(frozen=True)
class Asked:
    """A request that was read.

    Args:
        form: as it came.
        sequences: int32 [tokens] each.
        prompt_lengths: of each, from 0 to its length.
    """

    form: SequenceLogprobsRequest
    sequences: list[npt.NDArray[np.int32]]
    prompt_lengths: list[int]

    @property
    def details(self) -> Details:
        """What is asked for."""
        return Details(self.form.top_logprobs)

    def pairs(self) -> list[TokenPair | None]:
        """What is to be scored of each sequence; None: nothing."""
        details = self.details
        found: list[TokenPair | None] = []
        for ids, length in zip(self.sequences, self.prompt_lengths, strict=True):
            known = max(1, length)
            found.append(TokenPair(ids[:known], ids[known:], details) if ids.size > known else None)
        return found


def read(body: Body, reader: Reader, vocab_size: int, limits: TeacherLimits) -> Asked:
    """Read a request.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form.
        LimitError: more than one request may have.
    """
    form = to_form(only_json(body), SequenceLogprobsRequest, _OBJECTS)
    check_top("top_logprobs", form.top_logprobs, limits.max_top_k)
    most = limits.max_sequences_per_request
    refuse_over("sequences", bytes(form.sequences).count(b"[") - 1, most, "sequences")
    raw = lists_in(form.sequences, "sequences")
    limits.check(len(raw), sum(map(reader.least_tokens, raw)))
    sequences = []
    for place, row in enumerate(raw):
        sequences.append(token_ids(row, f"sequences[{place}]", reader.max_length, vocab_size))
    if (count := bytes(form.prompt_lengths).count(b",") + 1) != len(sequences):
        raise invalid("prompt_lengths", f"has {count} numbers for {len(sequences)} sequences")
    some = Annotated[list[AnyCount], Meta(min_length=1)]
    lengths = [int(length) for length in decode(form.prompt_lengths, some, "prompt_lengths")]
    for place, (ids, length) in enumerate(zip(sequences, lengths, strict=False)):
        if length > ids.size:
            raise invalid(f"prompt_lengths[{place}]", f"is {length}, and the sequence has {ids.size} tokens")
    if form.response_format == "binary":
        longest = max(ids.size - length for ids, length in zip(sequences, lengths, strict=True))
        # All have the shape of the longest, and so may come to far more than what is scored.
        numbers = len(sequences) * longest * (form.top_logprobs + 1)
        refuse_over("tokens", numbers, limits.max_tokens_per_request, "numbers in the arrays of the answer")
    return Asked(form, sequences, lengths)


def write(asked: Asked, scored: Sequence[Scored | None], body: Body) -> Response:
    """The answer.

    Args:
        scored: of each of `Asked.pairs`.
    """
    told = list(_told(asked, scored))
    return json_answer(_arrays(asked, told) if asked.form.response_format == "binary" else _lists(told), body)


def _told(asked: Asked, scored: Sequence[Scored | None]) -> Iterator[list[Place | None]]:
    """The places of each completion; None for the first token of a sequence."""
    for length, pair, values in zip(asked.prompt_lengths, asked.pairs(), scored, strict=True):
        begins: list[Place | None] = [None] if length == 0 else []
        yield begins + (list(places(pair, values)) if pair is not None and values is not None else [])


def _lists(told: list[list[Place | None]]) -> dict[str, Any]:
    logprobs, token_ids_ = [], []
    for completion in told:
        rows = [[] if place is None else _by_rank(place) for place in completion]
        token_ids_.append([[token_id for token_id, _ in row] for row in rows])
        logprobs.append([[logprob for _, logprob in row] for row in rows])
    return {"logprobs": logprobs, "logprob_token_ids": token_ids_}


def _by_rank(place: Place) -> list[tuple[int, float]]:
    row = list(zip(place.top_ids, place.top_logprobs, strict=True))
    return row if place.token_id in place.top_ids else [*row, (place.token_id, place.logprob)]


def _arrays(asked: Asked, told: list[list[Place | None]]) -> dict[str, Any]:
    k, longest = asked.form.top_logprobs, max(map(len, told))
    logprobs = np.full((len(told), longest, k), -np.inf, np.float32)
    ids = np.zeros((len(told), longest, k), np.int32)
    own = np.full((len(told), longest, 1), -np.inf, np.float32)
    own_ids = np.zeros((len(told), longest, 1), np.int32)
    for row, completion in enumerate(told):
        for column, place in enumerate(completion):
            if place is not None:
                logprobs[row, column], ids[row, column] = place.top_logprobs, place.top_ids
                own[row, column], own_ids[row, column] = place.logprob, place.token_id
    return {
        "logprobs_b64": _base64(logprobs),
        "token_ids_b64": _base64(ids),
        "actual_logprobs_b64": _base64(own),
        "actual_token_ids_b64": _base64(own_ids),
        "shape": [len(told), longest, k],
        "completion_lengths": [len(completion) for completion in told],
    }


def _base64(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()
