"""Requests and answers of the teacher's HTTP interface.

Bodies are read and written by hand: a request is a hundred thousand integers, and those should pass from
bytes to arrays once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orjson
import pyarrow as pa
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlad_core import schema
from rlad_core.client.forms import JSON
from services.serve.http.bodies import Body, arrow_answer, to_model, to_table
from services.serve.http.problems import ProblemError
from services.serve.http.texts import PromptIn, TokenId, check_one_given, tokenized
from services.teacher.scoring.interface import Details

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class SequenceIn(PromptIn):
    """One response to score after its prompt: each as token ids, or as text that the service tokenizes."""

    response_token_ids: list[TokenId] | None = Field(default=None, min_length=1)
    response: str | None = Field(
        default=None, min_length=1, description="Text as it is; write the end token where it should count."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_one_given(self, "prompt_token_ids", "prompt", "messages")
        check_one_given(self, "response_token_ids", "response")
        return self

    def response_tokens(self, tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
        """The response's token ids; see `PromptIn.prompt_tokens`."""
        if self.response_token_ids is not None:
            return self.response_token_ids
        return tokenized(str(self.response), tokenizer, f"{where}.response")

    @property
    def is_text(self) -> bool:
        """Whether anything of it has to be tokenized."""
        return self.prompt_token_ids is None or self.response_token_ids is None


class ScoreRequest(BaseModel):
    """Responses to score."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "sequences": [
                    {"id": "a", "prompt_token_ids": [11, 12, 13], "response_token_ids": [14, 15]},
                    {"id": "b", "messages": [{"role": "user", "content": "Hi"}], "response": "Hello"},
                ]
            }
        },
    )

    model: str | None = Field(
        default=None, description="Refused with 404 where it is not the one that is served."
    )
    top_k: int = Field(default=0, ge=0, description="Also tell the k likeliest tokens at each place.")
    entropy: bool = Field(default=False, description="Also tell the entropy at each place, in nats.")
    sequences: list[SequenceIn] = Field(min_length=1)


@dataclass(frozen=True)
class Wanted:
    """A request that was read.

    Args:
        sequences: SEQUENCES, its values not yet checked.
        model: the model it names, if it names one.
        details: what it wants besides log-probs.
        text_rows: rows that came as text.
    """

    sequences: pa.Table
    model: str | None
    details: Details
    text_rows: frozenset[int] = frozenset()


def read_request(
    body: Body, details: Details, tokenizer: PreTrainedTokenizerBase, fingerprint: str
) -> Wanted:
    """Read the body of ``POST /v1/score``.

    Args:
        details: what the query asks for, which is the only way with Arrow.
        tokenizer: for text.
        fingerprint: the tokenizer's, written on tables made from JSON, whose ids are taken to be its.

    Raises:
        ProblemError: 400 not readable, 422 not of the documented form.
    """
    if body.encoding == "arrow":
        return Wanted(to_table(body.content), None, details)
    asked = to_model(body.content, ScoreRequest)
    places = [f"sequences[{place}]" for place in range(len(asked.sequences))]
    sequences = list(zip(asked.sequences, places, strict=True))
    try:
        table = schema.build(
            schema.SEQUENCES,
            {
                "sequence_id": [s.id or str(place) for place, s in enumerate(asked.sequences)],
                "prompt_token_ids": [s.prompt_tokens(tokenizer, where) for s, where in sequences],
                "response_token_ids": [s.response_tokens(tokenizer, where) for s, where in sequences],
            },
            tokenizer_fingerprint=fingerprint,
        )
    except schema.SchemaError as error:
        raise ProblemError(422, "The request cannot be worked on", str(error)) from error
    return Wanted(
        table,
        asked.model,
        Details(max(asked.top_k, details.top_k), asked.entropy or details.entropy),
        frozenset(place for place, sequence in enumerate(asked.sequences) if sequence.is_text),
    )


def write_answer(wanted: Wanted, scores: pa.Table, body: Body, *, model: str) -> Response:
    """The answer to `wanted`: the table as it is, or as JSON with sums and counts."""
    if body.answer == "arrow":
        return arrow_answer(scores)
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
        results.append(result)
    usage = {
        "sequences": scores.num_rows,
        "prompt_tokens": int(schema.lengths(wanted.sequences.column("prompt_token_ids")).sum()),
        "scored_tokens": int(values.size),
    }
    answer = {"model": model, "policy_version": None, "results": results, "usage": usage}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type=JSON)


def _details(scores: pa.Table, offsets: np.ndarray) -> dict[str, list[Any]]:
    """The columns ``entropy`` and ``top`` of the answer by row, where the table has them."""
    found: dict[str, list[Any]] = {}
    present = [name for name in scores.column_names if scores.column(name).null_count == 0]
    if "entropy" in present:
        values, _ = schema.flatten(scores.column("entropy"))
        found["entropy"] = [values[start:stop] for start, stop in pairwise(offsets)]
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


def _tops(ids: np.ndarray, logprobs: np.ndarray, k: int) -> bytes:
    """The JSON of one row's ``top``; both arrays are [response tokens x k]."""
    return orjson.dumps(
        [
            [{"token_id": int(i), "logprob": float(p)} for i, p in zip(*place, strict=True)]
            for place in zip(ids.reshape(-1, k), logprobs.reshape(-1, k), strict=True)
        ]
    )
