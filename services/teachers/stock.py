"""A teacher that is a stock vLLM server: prompt log-probs from its OpenAI or its token interface.

A sequence is sent as a prompt with one token to generate, which is thrown away; its log-probs come back as
one JSON object per prompt token. That is many bytes per token: our own REST interface sends four.
"""

from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rlad_core import schema
from services.clients import name_sequences
from services.concurrency import all_of
from services.errors import ServiceError
from services.requests import Endpoint
from services.teachers.interface import Teacher

SEQUENCES_PER_REQUEST = 16


class StockServerTeacher(Teacher):
    """Asks ``/v1/completions``, or ``/inference/v1/generate`` of a server with ``--enable-scale-out``.

    Args:
        endpoint: the server; its limits are this teacher's.
        model: as the server calls it.
        api: which of the two is asked.
    """

    def __init__(
        self, endpoint: Endpoint, model: str, api: Literal["completions", "generate"] = "completions"
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self._api = api

    async def score(self, sequences: pa.Table) -> pa.Table:
        """See `Teacher.score`."""
        rows = sequences.select(["sequence_id", "prompt_token_ids", "response_token_ids"]).to_pylist()
        size = SEQUENCES_PER_REQUEST if self._api == "completions" else 1
        told = await all_of(self._score(rows[start : start + size]) for start in range(0, len(rows), size))
        return schema.build(
            schema.TEACHER_SCORES,
            {
                "sequence_id": sequences.column("sequence_id"),
                "teacher_logprobs": [logprobs for part in told for logprobs in part],
            },
            tokenizer_fingerprint=schema.fingerprint_of(sequences),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.endpoint.close()

    async def _score(self, rows: list[dict[str, Any]]) -> list[np.ndarray]:
        whole = [row["prompt_token_ids"] + row["response_token_ids"] for row in rows]
        what = f"the log-probs of {name_sequences([row['sequence_id'] for row in rows])}"
        if self._api == "completions":
            wanted: dict[str, Any] = {"prompt": whole, "max_tokens": 1, "prompt_logprobs": 0}
            path = "/v1/completions"
        else:
            sampling = {"max_tokens": 1, "prompt_logprobs": 0}
            wanted = {"token_ids": whole[0], "sampling_params": sampling}
            path = "/inference/v1/generate"
        answer = await self.endpoint.request("POST", path, json={"model": self.model, **wanted}, what=what)
        said = answer.json()
        told = (
            [choice["prompt_logprobs"] for choice in sorted(said["choices"], key=lambda each: each["index"])]
            if self._api == "completions"
            else [said["prompt_logprobs"]]
        )
        if len(told) != len(rows):
            raise ServiceError(f"{self.endpoint.url}{path} answered {len(told)} sequences of {len(rows)}")
        return [self._logprobs(row, entries) for row, entries in zip(rows, told, strict=True)]

    def _logprobs(self, row: dict[str, Any], entries: list[dict[str, Any]] | None) -> np.ndarray:
        response = row["response_token_ids"]
        try:
            if entries is None or len(entries) != len(row["prompt_token_ids"]) + len(response):
                raise LookupError
            places = entries[-len(response) :]
            values = [place[str(token)]["logprob"] for token, place in zip(response, places, strict=True)]
        except (LookupError, TypeError) as error:
            raise ServiceError(
                f"{self.endpoint.url} did not tell the log-prob of every token of sequence "
                f"{row['sequence_id']!r}; is it a vLLM server, and prompt_logprobs allowed?"
            ) from error
        return np.asarray(values, dtype=np.float32)
