"""Clients of a teacher's REST interface, for training loops and scripts of any kind.

    with TeacherClient("http://teacher:8000", token="...") as teacher:
        print(teacher.info().model)
        [logprobs] = teacher.score_tokens([([11, 12, 13], [14, 15])])   # float32, one per response token
        scores = teacher.score(sequences)                               # Arrow: SEQUENCES -> TEACHER_SCORES

`AsyncTeacherClient` has the same methods as coroutines. Both reuse connections, send a large table in parts
within the service's limits, several at a time, and repeat what a busy or restarting service did not answer.
They need neither Ray nor torch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.answer_forms import read_as
from rlad_core.client.blocking import Blocking
from rlad_core.client.connected import Connected
from rlad_core.client.details import (
    HIDDEN_BYTES,
    Details,
    HiddenDtype,
    answer_schema,
    named_per_token,
    names_tokens,
)
from rlad_core.client.errors import ServiceError
from rlad_core.client.forms import ScoreAnswer, SequenceScore, TeacherInfo, TokenizerInfo
from rlad_core.client.made_with import MadeWith, refuse_different, together
from rlad_core.client.parts import ask_table, cut, in_order_of, name_sequences
from rlad_core.client.plain_json import row_bytes
from rlad_core.client.shared_prompts import prompts_once, texts_once
from rlad_core.client.teacher_parts import parts_of, spread
from rlad_core.schema.validation import check_columns
from rlad_core.waiting import all_of

TOKENS_PER_PART = 65_536
"""Of a large table. The most that a service takes may be more than it scores within ``call_timeout_s``, with
several at a time: such calls would end at their limit and start over, again and again."""

PromptAndResponse = tuple[Sequence[int], Sequence[int]]
Logprobs = npt.NDArray[np.float32]


class AsyncTeacherClient(Connected):
    """A teacher behind a URL.

    Args:
        url: under which ``/v1/score`` is.
        token: bearer token, where the teacher wants one.
        call_timeout_s: limit of one HTTP request, 120 s by default; a teacher that needs more for 65,536
            tokens beside those of the other connections wants a longer one.
        timeout_s: limit of such a request with its repetitions, 600 s by default.
        connections: requests at a time.
        say: told while the teacher does not answer: after 10 s and then every 30 s, with URL and cause.

    Example:
        >>> async def first_logprob(url: str) -> float:
        ...     async with AsyncTeacherClient(url) as teacher:
        ...         [logprobs] = await teacher.score_tokens([([1, 2], [3])])
        ...         return float(logprobs[0])
    """

    CALL_TIMEOUT_S = 120.0
    TIMEOUT_S = 600.0

    _info: TeacherInfo | None = None

    async def info(self) -> TeacherInfo:
        """What the teacher is and takes."""
        answer = await self._endpoint.request("GET", "/v1/info", what="the teacher's settings")
        self._info = read_as(TeacherInfo, answer)
        return self._info

    async def tokenizer(self) -> TokenizerInfo:
        """The teacher's vocabulary, special tokens and chat template."""
        answer = await self._endpoint.request("GET", "/v1/tokenizer", what="the teacher's tokenizer")
        return read_as(TokenizerInfo, answer)

    async def score(
        self,
        sequences: pa.Table,
        *,
        top_k: int = 0,
        entropy: bool = False,
        end_token_ids: Sequence[int] = (),
        hidden: HiddenDtype | None = None,
        plain: bool = False,
        made_with: MadeWith | None = None,
    ) -> pa.Table:
        """Log-probs of responses, by Arrow.

        Args:
            sequences: SEQUENCES (`rlad_core.schema`), any number of rows; or NAMED_SEQUENCES, whose named
                tokens' log-probs are then told too.
            top_k: also the k likeliest tokens at each place.
            entropy: also the entropy at each place.
            end_token_ids: also the log of the probability that one of these comes, at each place.
            hidden: also the hidden state after the final norm at each place, in this precision;
                `rlad_core.client.details.hidden_states` reads it.
            plain: by another path than usual, each sequence by itself; to compare the two.
            made_with: what all answers are to be made with, as `info` tells it; by default the same, whatever
                it is.

        Returns:
            TEACHER_SCORES, or TEACHER_DETAILS where more than end_token_ids was asked for; the same ids in
            the same order. `rlad_core.client.made_with.made_with_of` tells what they were made with.

        Raises:
            SchemaError: a table without the columns of one.
            ServiceError: what the teacher refuses, in its words; see `Endpoint.request`.
            MixedError: answers that were not made with the same.
            TimeoutError: no answer in time; names the endpoint, the last fault and the sequences.
        """
        check_columns(sequences, schema.NAMED_SEQUENCES if names_tokens(sequences) else schema.SEQUENCES)
        details = Details(top_k, entropy, tuple(end_token_ids), hidden, named_per_token(sequences), plain)
        limits = spread(sequences, *await self._limits(), self._connections)
        parts = parts_of(sequences, limits, details, await self._most_hidden(details))
        if not parts:
            return schema.build(
                answer_schema(details), [], tokenizer_fingerprint=schema.fingerprint_of(sequences) or ""
            )
        told = await all_of(self._score(part, details) for part in parts)
        return together(told, self._endpoint.url, made_with)

    async def score_tokens(self, pairs: Sequence[PromptAndResponse]) -> list[Logprobs]:
        """Log-probs of responses given as token ids.

        Args:
            pairs: (prompt token ids, response token ids).

        Returns:
            For each pair float32 [response tokens].

        Raises:
            ServiceError, TimeoutError: see `score`.
        """
        info = self._info or await self.info()
        table = schema.build(
            schema.SEQUENCES,
            {
                "sequence_id": [str(place) for place in range(len(pairs))],
                "prompt_token_ids": [list(prompt) for prompt, _ in pairs],
                "response_token_ids": [list(response) for _, response in pairs],
            },
            tokenizer_fingerprint=info.tokenizer_fingerprint,
        )
        scores = await self.score(table)
        return [np.asarray(row.values) for row in scores.column("teacher_logprobs")]

    async def score_texts(
        self,
        texts: Sequence[tuple[Any, str]],
        *,
        top_k: int = 0,
        entropy: bool = False,
        made_with: MadeWith | None = None,
    ) -> list[SequenceScore]:
        """Log-probs of responses given as text, which the teacher tokenizes.

        Args:
            texts: (prompt, response); the prompt a string, or a chat as a list of messages.
            top_k, entropy, made_with: see `score`.

        Returns:
            For each pair its score, with the token ids.

        Raises:
            ServiceError, MixedError, TimeoutError: see `score`.
        """
        rows = [
            {"id": str(place), _prompt_key(prompt): prompt, "response": reply}
            for place, (prompt, reply) in enumerate(texts)
        ]
        # A text has no more tokens than bytes.
        sizes = [size * (1 + top_k) for size in row_bytes(rows, "text")]
        details = {"top_k": top_k, "entropy": entropy}
        parts = [rows[start:stop] for start, stop in cut(sizes, *await self._limits())]
        answers = await all_of(self._score_rows(part, details) for part in parts)
        refuse_different((answer.made_with for answer in answers), self._endpoint.url, made_with)
        return [score for answer in answers for score in answer.results]

    async def _most_hidden(self, details: Details) -> int | None:
        """Response tokens of one request whose hidden states are told; None: none are asked for."""
        if details.hidden is None:
            return None
        info = self._info or await self.info()
        return max(1, info.limits.max_hidden_bytes // (info.hidden_size * HIDDEN_BYTES[details.hidden]))

    async def _limits(self) -> tuple[int, int]:
        """Sequences and tokens of one request."""
        limits = (self._info or await self.info()).limits
        return limits.max_sequences_per_request, min(TOKENS_PER_PART, limits.max_tokens_per_request)

    async def _score_rows(self, rows: list[dict[str, Any]], details: dict[str, Any]) -> ScoreAnswer:
        # A fault is told by its place in the request, which may be a part of what was asked for.
        what = f"the scores of the texts from {rows[0]['id']} to {rows[-1]['id']}"
        shares = self._info is not None and self._info.takes_shared_prompts
        asked = {**(texts_once(rows) if shares else {"sequences": rows}), **details}
        answer = await self._endpoint.request("POST", "/v1/score", json=asked, what=what)
        return read_as(ScoreAnswer, answer)

    async def _score(self, part: pa.Table, details: Details) -> pa.Table:
        ids = part.column("sequence_id").to_pylist()
        scores = await ask_table(
            self._endpoint,
            "/v1/score",
            prompts_once(part) if self._info is not None and self._info.takes_shared_prompts else part,
            answer_schema(details),
            what=f"the log-probs of {name_sequences(ids)}",
            params=details.query or None,
        )
        told = in_order_of(ids, scores)
        self._check_whole(part, told, details)
        return told

    def _check_whole(self, part: pa.Table, told: pa.Table, details: Details) -> None:
        """A value for each token of each response, and all that was asked for."""
        wanted = schema.lengths(part.column("response_token_ids"))
        found = schema.lengths(told.column("teacher_logprobs"))
        if (wrong := (wanted != found).nonzero()[0]).size:
            row = int(wrong[0])
            raise ServiceError(
                f"{self._endpoint.url} told {found[row]} log-probs of sequence "
                f"{part.column('sequence_id')[row].as_py()!r}, whose response has {wanted[row]} tokens"
            )
        for name in sorted(details.columns):
            if told.column(name).null_count:
                raise ServiceError(f"{self._endpoint.url} was asked for {name}, and told none")


class TeacherClient(Blocking[AsyncTeacherClient]):
    """`AsyncTeacherClient` for code without an event loop; usable from several threads.

    Example:
        >>> def first_logprob(url: str) -> float:
        ...     with TeacherClient(url) as teacher:
        ...         [logprobs] = teacher.score_tokens([([1, 2], [3])])
        ...         return float(logprobs[0])
    """

    KIND = AsyncTeacherClient

    def info(self) -> TeacherInfo:
        """See `AsyncTeacherClient.info`."""
        return self._wait_for(self._client.info)

    def tokenizer(self) -> TokenizerInfo:
        """See `AsyncTeacherClient.tokenizer`."""
        return self._wait_for(self._client.tokenizer)

    def score(
        self,
        sequences: pa.Table,
        *,
        top_k: int = 0,
        entropy: bool = False,
        end_token_ids: Sequence[int] = (),
        hidden: HiddenDtype | None = None,
        plain: bool = False,
        made_with: MadeWith | None = None,
    ) -> pa.Table:
        """See `AsyncTeacherClient.score`."""
        return self._wait_for(
            lambda: self._client.score(
                sequences,
                top_k=top_k,
                entropy=entropy,
                end_token_ids=end_token_ids,
                hidden=hidden,
                plain=plain,
                made_with=made_with,
            )
        )

    def score_tokens(self, pairs: Sequence[PromptAndResponse]) -> list[Logprobs]:
        """See `AsyncTeacherClient.score_tokens`."""
        return self._wait_for(lambda: self._client.score_tokens(pairs))

    def score_texts(
        self,
        texts: Sequence[tuple[Any, str]],
        *,
        top_k: int = 0,
        entropy: bool = False,
        made_with: MadeWith | None = None,
    ) -> list[SequenceScore]:
        """See `AsyncTeacherClient.score_texts`."""
        return self._wait_for(
            lambda: self._client.score_texts(texts, top_k=top_k, entropy=entropy, made_with=made_with)
        )


def _prompt_key(prompt: Any) -> str:
    return "prompt" if isinstance(prompt, str) else "messages"
