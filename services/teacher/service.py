"""Teacher scoring: a Serve application that tells the log-probs of given responses, by handle and over HTTP.

    serve.run(build(TeacherArgs(model="Qwen/Qwen3-8B")), name="teacher", route_prefix="/")
    scores = await handle.score.remote(sequences)          # Arrow: SEQUENCES -> TEACHER_SCORES
    curl localhost:8000/v1/score -d '{"sequences": [{"prompt_token_ids": [1], "response_token_ids": [2]}]}'

All calls of a replica share one batcher, whichever way they came (`services.teacher.scorer`).
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
import pyarrow as pa
from fastapi import Query, Request, Response
from ray import serve
from ray.serve import Application

from rlad_core import schema
from rlad_core.client.details import HIDDEN_BYTES, NO_DETAILS, Details, named_per_token
from rlad_core.client.forms import JSON, ScoreAnswer, TeacherInfo, TeacherLimits, TokenizerInfo
from rlad_core.client.parts import cut
from rlad_core.client.teacher import TOKENS_PER_PART
from rlad_core.config import resolve_model
from services.base import telemetry, tracing
from services.base.tokenizer import load_tokenizer, tokenizer_info
from services.base.uncollected import uncollected
from services.serve.draining import Drains
from services.serve.http.answers import Telling
from services.serve.http.bodies import Body, documents, whole_answer
from services.serve.http.health import Intake, add_health_routes, serve_health
from services.serve.http.queries import values_of
from services.serve.http.streams import streamed
from services.serve.http.texts import Reader
from services.serve.http.tokenizing import add_tokenizer_routes, serve_tokens
from services.serve.jobs.routes import add_job_routes, serve_jobs
from services.serve.jobs.work import Work, widened
from services.serve.jobs.worker import Jobs
from services.serve.kept import TellsSettings
from services.serve.lost_engine import ends_with_engine
from services.serve.openai.models import ServedModel, add_model_routes, serve_model
from services.serve.replicas import begin, bind
from services.serve.token_texts import TokenTexts
from services.teacher.answers import telling
from services.teacher.app import SERVICE, http
from services.teacher.asked import in_query
from services.teacher.forms import EXAMPLE, DetailsQuery, ScoreQuery, ScoreRequest
from services.teacher.making import Making
from services.teacher.openai.routes import OpenAIRoutes
from services.teacher.reading import Wanted, read_request
from services.teacher.scorer import Scorer
from services.teacher.scoring.engines import load_engine
from services.teacher.scoring.tables import check_columns
from services.teacher.settings import TeacherArgs
from services.teacher.sizes import check_size

_TOKENS_STREAMED = 16_384
"""At a time, of an answer that is sent as it is made: few enough that the first ones come soon."""
_HIDDEN_STREAMED = 2**25
"""Bytes of hidden states likewise; as JSON they are some three times as many."""

add_health_routes(http)
add_job_routes(http, ScoreRequest, ScoreAnswer, EXAMPLE, ScoreQuery)
add_tokenizer_routes(http)
add_model_routes(http)


@serve.deployment
@serve.ingress(http)
class TeacherService(OpenAIRoutes, Drains, TellsSettings):
    """One replica: an engine, its batcher, and the tokenizer's fingerprint."""

    async def __init__(self, args: TeacherArgs) -> None:  # type: ignore[misc]  # Serve awaits it
        begin(args)
        self._args = args
        model = resolve_model(args.model)
        with uncollected():
            self._tokenizer = load_tokenizer(model)
            # In a thread: it takes from seconds to minutes, and Serve's probes want an answer meanwhile.
            self._engine = await asyncio.to_thread(load_engine, args, model)
        self._fingerprint = schema.tokenizer_fingerprint(self._tokenizer.get_vocab())
        # Once: of a large vocabulary they are megabytes, and a tenth of a second.
        self._tokenizer_told = tokenizer_info(self._tokenizer, model).model_dump_json().encode()
        longest, vocab_size = self._engine.max_model_len, self._engine.vocab_size
        self._reader = Reader.of(self._tokenizer, longest, vocab_size=vocab_size)
        self._texts = TokenTexts(self._tokenizer)
        self._making = Making(self._engine, args, self._tokenizer, self._fingerprint)
        await self._making.look()
        self._served = ServedModel(args.name, self._engine.max_model_len)
        self._intake = Intake(
            SERVICE, self._engine.check_health, "the engine", args, lambda: self._engine.asleep
        )
        self._scorer = Scorer(self._engine, args, self._fingerprint, self._intake)
        self._jobs = Jobs(SERVICE, args.jobs_dir, args.jobs, self._read_job)
        serve_health(self._intake)
        serve_model(self._served)
        serve_tokens(self._reader, self._texts, self._intake, args.limits.max_body_bytes)
        serve_jobs(self._jobs, self._intake, args.jobs.keep_s, args.limits.max_body_bytes)

    async def score(self, sequences: pa.Table, details: Details = NO_DETAILS) -> pa.Table:
        """Log-probs of the responses; see `services.clients.teachers.Teacher.score`.

        Returns:
            TEACHER_SCORES; TEACHER_DETAILS where details were asked for.

        Raises:
            InvalidRequestError: a sequence that cannot be scored; names it.
            LimitError: more sequences or tokens than one request may have.
            BusyError: too much waits here already.
            DeadlineError: not done within ``limits.timeout_s``.
            ScoringError: the engine failed.
        """
        with (
            tracing.carried(sequences, telemetry.run_name()) as sequences,
            telemetry.request(SERVICE, "handle"),
        ):
            named = named_per_token(sequences)
            return await self._score(sequences, replace(details, named_token_ids=named))

    @http.post("/v1/score", **documents(ScoreRequest, ScoreAnswer, EXAMPLE))
    async def score_http(
        self,
        request: Request,
        query: Annotated[ScoreQuery, Query()],
    ) -> Response:
        """Score responses: exactly one natural log-prob per response token, at temperature 1, of the whole
        vocabulary, in the order of the request.
        """
        async with AsyncExitStack() as held:
            body = await held.enter_async_context(
                self._intake.admit(request, self._args.limits.max_body_bytes)
            )
            details = in_query(values_of(request.query_params))
            if body.answer == "ndjson" or (query.stream and body.answer == "arrow"):
                work = await self._work(body, details, self._args.limits, _TOKENS_STREAMED, _HIDDEN_STREAMED)
                parts = work.done(self._args.limits.timeout_s)
                return await streamed(parts, work.telling, body, held.pop_all())
            return await self._answer(body, details)

    async def _answer(self, body: Body, details: DetailsQuery) -> Response:
        wanted = await self._read(body, details, self._args.limits)
        scores = await self._score(wanted.sequences, wanted.details)
        return await asyncio.to_thread(whole_answer, self._telling(wanted), scores, body)

    def _telling(self, wanted: Wanted) -> Telling:
        return telling(wanted, model=self._served.name, texts=self._texts)

    async def _read(self, body: Body, details: DetailsQuery, limits: TeacherLimits) -> Wanted:
        wanted = await self._intake.read(read_request, body, details, self._reader, self._fingerprint, limits)
        self._served.check(wanted.model)
        return wanted

    async def _read_job(self, body: Body, query: Mapping[str, list[str]]) -> Work:
        """See `services.serve.jobs.work.ReadWork`."""
        limits = widened(
            self._args.limits,
            self._args.jobs.requests_per_job,
            "max_sequences_per_request",
            "max_tokens_per_request",
            "max_hidden_bytes",
        )
        return await self._work(body, in_query(query), limits, TOKENS_PER_PART)

    async def _work(
        self,
        body: Body,
        details: DetailsQuery,
        limits: TeacherLimits,
        part_tokens: int,
        part_hidden: int | None = None,
    ) -> Work:
        """A request in parts of at most so many tokens and bytes of hidden states; None: a request's own."""
        wanted = await self._read(body, details, limits)
        usual, rows = self._args.limits, wanted.sequences
        check_columns(rows)  # of what is counted now; rows are looked at with their part
        prompts, responses = (
            schema.lengths(rows.column(name)) for name in ("prompt_token_ids", "response_token_ids")
        )
        # Of all parts together: each of them is within the limits of a request anyway.
        scored, hidden_size = int(responses.sum()), self._engine.hidden_size
        tokens = int(prompts.sum()) + scored
        check_size(rows.num_rows, tokens, scored, wanted.details, hidden_size, limits)
        sizes = prompts + responses * (1 + wanted.details.told_per_token)
        most = min(part_tokens, usual.max_tokens_per_request)
        if hidden := wanted.details.hidden:
            told = responses * (self._engine.hidden_size * HIDDEN_BYTES[hidden])
            part_hidden = max(1, min(part_hidden or usual.max_hidden_bytes, usual.max_hidden_bytes))
            sizes = np.maximum(sizes, -(-told * most // part_hidden))
        return Work(
            rows,
            list(cut(sizes.tolist(), usual.max_sequences_per_request, most)),
            partial(self._score, details=wanted.details),
            self._telling(wanted),
            partial(self._scorer.check, details=wanted.details),
        )

    @http.get("/v1/info")
    async def info(self) -> TeacherInfo:
        """What is served here, and within which limits."""
        return TeacherInfo(
            model=self._served.name,
            engine=self._args.engine,
            dtype=self._args.dtype,
            max_model_len=self._engine.max_model_len,
            vocab_size=self._engine.vocab_size,
            hidden_size=self._engine.hidden_size,
            takes_shared_prompts=True,
            tells_entropy="entropy" in self._engine.tells,
            details=sorted(self._engine.tells),
            tokenizer_fingerprint=self._fingerprint,
            chat_template_fingerprint=self._making.told.chat_template,
            made_with=self._making.told,
            schema_versions=dict.fromkeys(("sequences", "teacher_scores", "teacher_details"), schema.VERSION),
            limits=self._args.limits,
            load=self._scorer.load,
        )

    @http.get("/v1/tokenizer", response_model=TokenizerInfo)
    async def tokenizer(self) -> Response:
        """The tokenizer, so that a policy can be compared with it token by token."""
        return Response(self._tokenizer_told, media_type=JSON)

    # Called on every replica around the learner's work, where they share a GPU (`services.learner.sleeping`).

    async def sleep(self) -> dict[str, str]:
        """Give the GPU's memory to the learner; requests by handle wait meanwhile. Idempotent, as `wake`."""
        with ends_with_engine(SERVICE):
            await self._engine.sleep()
        return {"replica": serve.get_replica_context().replica_id.unique_id}

    async def wake(self) -> dict[str, str]:
        """Take it again, once the weights are known to be those from before."""
        with ends_with_engine(SERVICE):
            await self._engine.wake()
        return {"replica": serve.get_replica_context().replica_id.unique_id}

    async def check_health(self) -> None:
        """Asked by Serve, which replaces the replica if this raises: the engine must score a token, or be at
        work on what came in within ``limits.timeout_s``.
        """
        await self._intake.check()

    def __del__(self) -> None:
        # Serve calls this when the replica has drained. There is no engine if __init__ failed. Jobs first:
        # what fails for want of an engine is left to other replicas.
        if jobs := getattr(self, "_jobs", None):
            jobs.stop()
        if engine := getattr(self, "_engine", None):
            engine.shutdown()

    async def _score(self, sequences: pa.Table, details: Details) -> pa.Table:
        return await self._making.marked(await self._scorer.score(sequences, details), details)


def build(args: TeacherArgs) -> Application:
    """The application, for `serve.run`, a Serve config file or Kubernetes."""
    # A health check waits a minute for its probe.
    return bind(TeacherService, args, health_check_timeout_s=120, **args.placement)
