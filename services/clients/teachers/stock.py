"""A teacher that is a stock vLLM server: prompt log-probs from its OpenAI or its token interface.

A sequence is sent as a prompt with one token to generate, which is thrown away; its log-probs come back as
one JSON object per prompt token. That is many bytes per token: our own REST interface sends four.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.details import Details, answer_schema, names_tokens
from rlad_core.client.endpoint import Endpoint
from rlad_core.client.errors import InvalidRequestError, ServiceError
from rlad_core.client.parts import name_sequences
from rlad_core.waiting import all_of
from services.clients.teachers import padded
from services.clients.teachers.interface import Teacher
from services.clients.teachers.policy import (
    Compared,
    MismatchError,
    PolicyFacts,
    compare_ids,
    compare_lengths,
    shown,
)
from services.clients.teachers.told import likeliest_told, logprobs_told, read_told

SEQUENCES_PER_REQUEST = 16
_IDS_PER_REQUEST = 1000


class StockServerTeacher(Teacher):
    """Asks ``/v1/completions``, or ``/inference/v1/generate`` of a server with ``--enable-scale-out``.

    Args:
        endpoint: the server; its limits are this teacher's.
        model: as the server calls it.
        api: which of the two is asked.
        say: told what the probe finds that is no mismatch.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        api: Literal["completions", "generate"] = "completions",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self._api = api
        self._say = say
        self._tokens: int | None = None
        """Of the policy's tokenizer, once they were compared."""

    async def score(self, sequences: pa.Table, end_token_ids: Sequence[int] = (), top_k: int = 0) -> pa.Table:
        """See `Teacher.score`; a stock server tells likely tokens and those of the prompt, no others."""
        if end_token_ids or names_tokens(sequences):
            raise ServiceError(
                f"{self.endpoint.url} is a stock server, which does not tell the probability of a set of end "
                "tokens, or of tokens that are named; take a teacher of kind serve or http, or leave the end "
                "token out of the teacher term"
            )
        rows = sequences.select(["sequence_id", "prompt_token_ids", "response_token_ids"]).to_pylist()
        size = SEQUENCES_PER_REQUEST if self._api == "completions" else 1
        told = await all_of(
            self._score(rows[start : start + size], top_k) for start in range(0, len(rows), size)
        )
        values = schema.token_columns(
            "teacher", [each for part in told for each in part], asked=Details(top_k=top_k).columns
        )
        return schema.build(
            answer_schema(Details(top_k=top_k)),
            {"sequence_id": sequences.column("sequence_id"), **values},
            tokenizer_fingerprint=schema.fingerprint_of(sequences),
        )

    async def compare(self, policy: PolicyFacts) -> Compared:
        """See `Teacher.compare`: the served model, its length, and what its token ids stand for."""
        answer = await self.endpoint.request("GET", "/v1/models", what="the models that are served")
        served = read_told(
            answer, lambda told: {model["id"]: model.get("max_model_len") for model in told["data"]}
        )
        if self.model not in served:
            raise MismatchError(
                f"{self.endpoint.url} serves {', '.join(served)}, not {self.model!r}; correct model"
            )
        # Of an adapter it tells none: it has the engine's, as the model that it changes.
        if (longest := served[self.model]) is None:
            longest = read_told(answer, lambda _: min(each for each in served.values() if each is not None))
        # The server generates a token that nobody asked for, and counts it.
        compare_lengths(policy.max_length, longest - 1)
        await self._compare_ids(policy)
        for what, text, ours in policy.known:
            wanted = {"model": self.model, "prompt": text, "add_special_tokens": False}
            answer = await self.endpoint.request(
                "POST", "/tokenize", json=wanted, what=f"the token ids of a {what}"
            )
            theirs = read_told(answer, lambda told: list(told["tokens"]))
            compare_ids(what, ours, theirs, policy.tokenizer)
        self._tokens = max(policy.tokenizer.get_vocab().values()) + 1
        if policy.top_k:
            await self._compare_top_k(policy)
        return Compared(most_top_k=policy.top_k)

    async def _compare_top_k(self, policy: PolicyFacts) -> None:
        """How many likely tokens it tells is a setting that it doesn't say; more are refused."""
        try:
            await self._told([policy.reply_ids], "its likeliest tokens", policy.top_k)
        except InvalidRequestError as error:
            raise MismatchError(
                f"an objective wants its {policy.top_k} likeliest tokens at each place: {error}. Start it "
                f"with --max-logprobs {policy.top_k}, or write a smaller top_k"
            ) from error

    async def probe(self, policy: PolicyFacts) -> Compared:
        """See `Teacher.probe`; what rows that are no tokens take is measured, and told."""
        compared = await super().probe(policy)
        padding = await self.padding(policy)
        if padding.rows and self._say is not None:
            self._say(f"{self.endpoint.url}: {padding}. A teacher of `rlad serve teacher` leaves them out")
        return compared

    async def padding(self, policy: PolicyFacts) -> padded.Padding:
        """What rows of the served model that are no tokens take, before the known reply and behind it.

        Raises:
            ServiceError, TimeoutError: the server does not answer.
        """
        places = [policy.chat_ids, policy.chat_ids + policy.reply_ids]

        async def reads(token_id: int) -> bool:
            try:
                await self._told([places[0] + [token_id]], "whether an id is read")
            except InvalidRequestError:
                return False
            return True

        async def mass(token_ids: Sequence[int]) -> float:
            return max([await self._probability(place, token_ids) for place in places])

        return await padded.measured(max(policy.tokenizer.get_vocab().values()) + 1, reads, mass)

    async def close(self) -> None:
        """Close the connections."""
        await self.endpoint.close()

    async def _probability(self, prompt: list[int], token_ids: Sequence[int]) -> float:
        """Of these ids together, behind a prompt."""
        size = SEQUENCES_PER_REQUEST if self._api == "completions" else 1
        blocks = [token_ids[start : start + size] for start in range(0, len(token_ids), size)]
        what = "the log-probs of rows that are no tokens"
        told = await all_of(self._told([[*prompt, each] for each in block], what) for block in blocks)
        try:
            logprobs = [
                float(entries[-1][str(token_id)]["logprob"])
                for block, answer in zip(blocks, told, strict=True)
                for token_id, entries in zip(block, answer, strict=True)
            ]
        except (LookupError, TypeError, ValueError) as error:
            raise ServiceError(f"{self.endpoint.url} did not tell {what}") from error
        return math.fsum(math.exp(min(value, 0.0)) for value in logprobs)

    async def _compare_ids(self, policy: PolicyFacts) -> None:
        """Every id of the policy's vocabulary stands for the same text; a block that differs is halved."""
        ids = sorted(set(policy.tokenizer.get_vocab().values()))
        blocks = [ids[start : start + _IDS_PER_REQUEST] for start in range(0, len(ids), _IDS_PER_REQUEST)]
        for block in blocks:
            while not await self._same_text(policy, block):
                if len(block) == 1:
                    raise MismatchError(
                        f"token id {block[0]} is {shown(policy.tokenizer.decode(block))} to the policy and "
                        "something else to the teacher. Take a teacher of the policy's model family"
                    )
                half = block[: len(block) // 2]
                block = half if not await self._same_text(policy, half) else block[len(half) :]

    async def _same_text(self, policy: PolicyFacts, ids: list[int]) -> bool:
        answer = await self.endpoint.request(
            "POST", "/detokenize", json={"model": self.model, "tokens": ids}, what="the text of token ids"
        )
        return bool(read_told(answer, lambda told: told["prompt"]) == policy.tokenizer.decode(ids))

    async def _score(self, rows: list[dict[str, Any]], top_k: int) -> list[dict[str, np.ndarray]]:
        whole = [row["prompt_token_ids"] + row["response_token_ids"] for row in rows]
        told = await self._told(
            whole, f"the log-probs of {name_sequences([row['sequence_id'] for row in rows])}", top_k
        )
        return [
            {"teacher_logprobs": self._logprobs(row, entries)}
            | (self._top(row, entries, top_k) if top_k else {})
            for row, entries in zip(rows, told, strict=True)
        ]

    def _top(self, row: dict[str, Any], entries: list[dict[str, Any]], top_k: int) -> dict[str, np.ndarray]:
        """The likeliest tokens at each place; rows of its model that are no tokens are left out."""
        return likeliest_told(
            entries[-len(row["response_token_ids"]) :],
            top_k,
            tokens=self._tokens,
            sequence_id=row["sequence_id"],
            server=self.endpoint.url,
        )

    async def _told(self, prompts: list[list[int]], what: str, top_k: int = 0) -> list[Any]:
        """What the server says of each token of some prompts; of one where ``api`` is generate."""
        if self._api == "completions":
            wanted: dict[str, Any] = {"prompt": prompts, "max_tokens": 1, "prompt_logprobs": top_k}
            path = "/v1/completions"
        else:
            sampling = {"max_tokens": 1, "prompt_logprobs": top_k}
            wanted = {"token_ids": prompts[0], "sampling_params": sampling}
            path = "/inference/v1/generate"
        answer = await self.endpoint.request("POST", path, json={"model": self.model, **wanted}, what=what)
        told = read_told(answer, _by_prompt if self._api == "completions" else _of_one)
        if len(told) != len(prompts):
            raise ServiceError(f"{self.endpoint.url}{path} answered {len(told)} sequences of {len(prompts)}")
        return told

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
        return logprobs_told(values, row["sequence_id"], self.endpoint.url)


def _by_prompt(said: Any) -> list[Any]:
    """Of several prompts, as `/v1/completions` tells them."""
    choices = sorted(said["choices"], key=lambda each: each["index"])
    return [choice.get("prompt_logprobs") for choice in choices]


def _of_one(said: Any) -> list[Any]:
    """Of the one prompt that `/inference/v1/generate` takes."""
    return [said.get("prompt_logprobs")]
