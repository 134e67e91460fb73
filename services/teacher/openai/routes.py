"""Routes that clients of OpenAI's API, of vLLM's server and of TRL ask, for the service to inherit."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response

from rlad_core.client.details import Details
from services.base import telemetry
from services.serve.http.bodies import documents
from services.serve.http.health import UP, Health, Intake
from services.serve.http.texts import Reader
from services.serve.openai.answers import Completion
from services.serve.openai.models import ServedModel
from services.serve.token_texts import TokenTexts
from services.teacher.app import SERVICE, http
from services.teacher.openai import choices, completions, sequence_logprobs
from services.teacher.scorer import Scorer
from services.teacher.scoring.interface import Scored, SleepingEngine, TokenPair
from services.teacher.settings import TeacherArgs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class OpenAIRoutes:
    """What the service has, that these routes work with."""

    _args: TeacherArgs
    _engine: SleepingEngine
    _intake: Intake
    _reader: Reader
    _scorer: Scorer
    _served: ServedModel
    _texts: TokenTexts
    _tokenizer: "PreTrainedTokenizerBase"

    @http.post(
        "/v1/completions",
        **documents(completions.Documented, Completion, completions.EXAMPLE, openai=True, arrow=False),
    )
    async def complete(self, request: Request) -> Response:
        """Score prompts in OpenAI's form: log-probs of their tokens with `echo` and `logprobs`, or with
        `prompt_logprobs` as vLLM's server tells them. With `max_tokens` 1 the likeliest token is appended.
        """
        limits = self._args.limits
        async with self._intake.admit(request, limits.max_body_bytes) as body:
            asked = await self._intake.read(
                completions.read, body, self._reader, self._engine.vocab_size, limits
            )
            self._served.check(asked.form.model)
            scored = await self._score_those(asked.pairs(), asked.details)
            with telemetry.phase(SERVICE, "encode"):
                return await asyncio.to_thread(
                    choices.write, asked, scored, body, self._texts, self._end_token_id, self._served.name
                )

    @http.post("/get_sequence_logprobs", include_in_schema=False)
    @http.post(
        "/get_sequence_logprobs/",
        **documents(
            sequence_logprobs.SequenceLogprobsRequest,
            sequence_logprobs.SequenceLogprobs,
            sequence_logprobs.EXAMPLE,
            arrow=False,
        ),
    )
    async def get_sequence_logprobs(self, request: Request) -> Response:
        """Score completions as TRL's clients up to 1.10 ask for it; later ones ask `/v1/completions`."""
        limits = self._args.limits
        async with self._intake.admit(request, limits.max_body_bytes) as body:
            asked = await self._intake.read(
                sequence_logprobs.read, body, self._reader, self._engine.vocab_size, limits
            )
            scored = await self._score_those(asked.pairs(), asked.details)
            with telemetry.phase(SERVICE, "encode"):
                return await asyncio.to_thread(sequence_logprobs.write, asked, scored, body)

    @http.get("/health/", include_in_schema=False)  # as TRL's clients spell it
    @http.get("/health")
    async def health(self) -> Health:
        """As `/healthz`, by the name that vLLM's server has for it."""
        return UP

    @property
    def _end_token_id(self) -> int | None:
        end: Any = self._tokenizer.eos_token_id
        return end

    async def _score_those(self, pairs: Sequence[TokenPair | None], details: Details) -> list[Scored | None]:
        """With nothing where there is nothing to score."""
        wanted = [pair for pair in pairs if pair is not None]
        scored = iter(await self._scorer.score_pairs(wanted, details) if wanted else ())
        return [None if pair is None else next(scored) for pair in pairs]
