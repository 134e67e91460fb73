"""Rollouts: a Serve deployment that samples groups of responses from the current policy.

One replica holds one vLLM engine, on CPUs or GPUs from the same code. Groups come back as Arrow with one
float32 log-prob and one policy version per token. New weights arrive in place, see `services.weights.store`;
running requests are held for the moment of the change and go on, which their tokens' versions show.

Which weights answer a request: it carries ``min_version``, and a replica that is older takes the current
version from the policy store before it serves. So a replica that started late or missed an update never
answers with older weights, and one whose update failed half-way answers nothing until Serve has replaced it.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from fastapi import Query, Request, Response
from ray import serve
from ray.serve import Application

from rlad_core import metrics, schema
from rlad_core.client.forms import Load
from rlad_core.client.parts import cut
from rlad_core.client.rollout_forms import PolicyInfo, RolloutAnswer, RolloutLimits
from rlad_core.client.rollouts import RESPONSES_PER_PART
from rlad_core.config import resolve_model
from rlad_core.language_model.vocabulary import token_rows
from services.base import telemetry, tracing
from services.base.lengths import longest_sequence
from services.base.tokenizer import load_tokenizer
from services.base.uncollected import uncollected
from services.rollout.app import SERVICE, http
from services.rollout.http import (
    EXAMPLE,
    RolloutQuery,
    RolloutRequest,
    one_each,
    read_request,
    telling,
)
from services.rollout.openai.routes import OpenAIRoutes
from services.rollout.sampling import Sampler
from services.rollout.settings import RolloutArgs, SamplingSettings, engine_args
from services.rollout.sizes import group_tokens
from services.rollout.taking_weights import TakesWeights
from services.rollout.turns import EngineTurns
from services.rollout.writer import Writer
from services.serve.draining import Drains
from services.serve.http.answers import Telling
from services.serve.http.bodies import Body, documents, whole_answer
from services.serve.http.health import Intake, add_health_routes, serve_health
from services.serve.http.queries import values_of
from services.serve.http.streams import streamed
from services.serve.http.texts import Reader, refuse_over
from services.serve.http.tokenizing import add_tokenizer_routes, serve_tokens
from services.serve.jobs.routes import add_job_routes, serve_jobs
from services.serve.jobs.work import Work, widened
from services.serve.jobs.worker import Jobs
from services.serve.kept import TellsSettings
from services.serve.openai.models import ServedModel, add_model_routes, serve_model
from services.serve.replicas import begin, bind
from services.serve.token_texts import TokenTexts
from services.weights.held_policy import HeldPolicy
from services.weights.policy_store import policy_store

_STREAMED = 16
"""Responses in a part of an answer that is sent as it is made; parts come together as a usual one has."""

add_health_routes(http)
add_job_routes(http, RolloutRequest, RolloutAnswer, EXAMPLE, RolloutQuery)
add_tokenizer_routes(http)
add_model_routes(http)


@serve.deployment
@serve.ingress(http)
class RolloutService(OpenAIRoutes, TakesWeights, Drains, TellsSettings):
    """One replica: an engine, its tokenizer, and which policy version it holds."""

    async def __init__(self, args: RolloutArgs) -> None:  # type: ignore[misc]  # Serve awaits it
        begin(args)
        # Here, so that whoever only builds or calls the application doesn't load them.
        with uncollected():
            from transformers import AutoConfig

            from services.rollout.adapter_engine import AdapterEngine
            from services.rollout.engine import PolicyEngine
            from services.vllm.process import check_platform

        check_platform(args.num_gpus)
        self._args = args
        context = serve.get_replica_context()
        self._replica = context.replica_id.unique_id

        def tell(version: int) -> None:
            if args.policy_store is not None:  # else there is but one version
                # A replica that takes another's place takes its number too, so the label has few values.
                telemetry.gauge(metrics.RUN_POLICY_VERSION, version, rank=str(context.rank.rank))

        model = resolve_model(args.model)
        self._tokenizer = load_tokenizer(model)
        rows = int(AutoConfig.from_pretrained(model).get_text_config().vocab_size)
        self._vocab_size = token_rows(self._tokenizer.get_vocab(), rows)
        self._fingerprint = schema.tokenizer_fingerprint(self._tokenizer.get_vocab())
        self._max_model_len = longest_sequence(
            model, args.max_model_len, args.max_num_batched_tokens, args.model
        )
        self._reader = Reader.of(self._tokenizer, self._max_model_len, args.chat, self._vocab_size)
        self._texts = TokenTexts(self._tokenizer)
        self._served = ServedModel(args.name, self._max_model_len)
        engine = engine_args(args, model, self._max_model_len), args.transfer, self._vocab_size
        self._engine = PolicyEngine(*engine) if args.adapter is None else AdapterEngine(*engine, args.adapter)
        store = None
        if args.policy_store is not None and args.transfer == "object_store":
            store = policy_store(args.policy_store)
        node = ray.get_runtime_context().get_node_id()
        self._held = HeldPolicy(self._engine, self._replica, store, args.update_timeout_s, tell, node)
        # Before Serve routes anything here: a restarted replica must not begin with version 0.
        await self._held.start()
        self._intake = Intake(SERVICE, self._check, "the engine", args, lambda: self._held.asleep)
        self._jobs = Jobs(SERVICE, args.jobs_dir, args.jobs, self._read_job)
        # Enough that the engine always has a next one, and few enough that one who comes gets a turn soon.
        self._turns = EngineTurns(
            2 * args.max_num_seqs,
            args.weights,
            args.limits.max_unfinished_responses,
            self._engine.unfinished,
        )
        self._writer = Writer(self._engine, self._held, self._turns, timeout_s=args.timeout_s)
        self._sampler = Sampler(
            self._engine,
            self._held,
            self._turns,
            self._tokenizer,
            fingerprint=self._fingerprint,
            vocab_size=self._vocab_size,
            max_model_len=self._max_model_len,
            timeout_s=args.timeout_s,
        )
        serve_health(self._intake)
        serve_model(self._served)
        serve_tokens(self._reader, self._texts, self._intake, args.limits.max_body_bytes)
        serve_jobs(self._jobs, self._intake, args.jobs.keep_s, args.limits.max_body_bytes)

    async def generate(
        self, prompts: pa.Table, sampling: SamplingSettings, min_version: int = 0, top_tokens: int = 0
    ) -> pa.Table:
        """Sample ``sampling.group_size`` responses for each prompt.

        Call it with one or a few prompts, so that finished groups flow on early. Cancelling the call frees
        the engine of its requests.

        Args:
            prompts: columns group_id, prompt_id, prompt_token_ids; others are not read.
            sampling: see `SamplingSettings`.
            min_version: oldest policy version that may begin the responses.
            top_tokens: tell so many of the likeliest tokens at each place.

        Returns:
            ROLLOUTS table, or ROLLOUT_DETAILS with ``top_tokens``, group by group in the order of
            ``prompts``, by sample_index within.

        Raises:
            InvalidRequestError: a prompt leaves no room for a response, or has another tokenizer's ids.
            StaleReplicaError: the replica has no way to get ``min_version``.
            DeadlineError: after ``timeout_s`` seconds, or ``update_timeout_s`` for the version.
        """
        with tracing.carried(prompts, telemetry.run_name()) as prompts, telemetry.request(SERVICE, "handle"):
            return await self._sampler.sample(prompts, sampling, min_version, top_tokens)

    async def generate_in_parts(
        self, prompts: pa.Table, sampling: SamplingSettings, min_version: int = 0, top_tokens: int = 0
    ) -> AsyncGenerator[pa.Table, None]:
        """The same to one prompt, as its responses finish: those that do within a second of one another
        together.

        Yields:
            ROLLOUTS or ROLLOUT_DETAILS tables, whose rows come in any order.
        """
        with tracing.carried(prompts, telemetry.run_name()) as prompts, telemetry.request(SERVICE, "handle"):
            async with aclosing(
                self._sampler.sample_in_parts(prompts, sampling, min_version, top_tokens)
            ) as parts:
                async for part in parts:
                    yield part

    @http.post("/v1/rollouts", **documents(RolloutRequest, RolloutAnswer, EXAMPLE))
    async def rollouts_http(self, request: Request, parameters: Annotated[RolloutQuery, Query()]) -> Response:
        """Sample a group of responses for each prompt, with exactly one natural log-prob per token, at
        temperature 1, of the whole vocabulary. With Arrow the body is a PROMPTS table, and the sampling
        settings are query parameters.
        """
        query = one_each(values_of(request.query_params))
        async with AsyncExitStack() as held:
            body = await held.enter_async_context(
                self._intake.admit(request, self._args.limits.max_body_bytes)
            )
            if body.answer == "ndjson" or (parameters.stream and body.answer == "arrow"):
                work = await self._work(body, query, self._args.limits, _STREAMED)
                parts = work.done(self._args.timeout_s, RESPONSES_PER_PART // _STREAMED)
                return await streamed(parts, work.telling, body, held.pop_all())
            return await self._answer(body, query)

    async def _answer(self, body: Body, query: dict[str, str]) -> Response:
        prompts, sampling = await self._intake.read(
            read_request, body, query, self._reader, self._fingerprint, self._args.limits
        )
        rollouts = await self._admitted(prompts, sampling)
        return await asyncio.to_thread(whole_answer, self._telling(prompts), rollouts, body)

    def _telling(self, prompts: pa.Table) -> Telling:
        return telling(prompts, model=self._served.name, version=lambda: self._held.report["version"])

    async def _admitted(self, prompts: pa.Table, sampling: SamplingSettings) -> pa.Table:
        """Sample for a caller: within the queue's limit and its quota."""
        with self._turns.admitted(prompts.num_rows * sampling.group_size):
            self._intake.charge(int(self._sizes(prompts, sampling).sum()))
            return await self._sampler.sample(prompts, sampling)

    def _sizes(self, prompts: pa.Table, sampling: SamplingSettings) -> npt.NDArray[np.int64]:
        """See `group_tokens`."""
        return group_tokens(schema.lengths(prompts.column("prompt_token_ids")), sampling, self._max_model_len)

    async def _read_job(self, body: Body, query: Mapping[str, list[str]]) -> Work:
        """See `services.serve.jobs.work.ReadWork`."""
        limits = widened(
            self._args.limits,
            self._args.jobs.requests_per_job,
            "max_responses_per_request",
            "max_tokens_per_request",
        )
        return await self._work(body, one_each(query), limits)

    async def _work(
        self, body: Body, query: dict[str, str], limits: RolloutLimits, in_a_part: int = RESPONSES_PER_PART
    ) -> Work:
        """A request in parts, of so many responses each, or of one prompt."""
        prompts, sampling = await self._intake.read(
            read_request, body, query, self._reader, self._fingerprint, limits
        )
        usual, sizes = self._args.limits, self._sizes(prompts, sampling).tolist()
        # A prompt with its responses is in one part, also of a job, which may have more of them altogether.
        most = usual.max_responses_per_request
        refuse_over("sequences", sampling.group_size, most, "responses to one prompt")
        usual.check_tokens(max(sizes, default=0))
        rows = max(1, min(in_a_part, most) // sampling.group_size)
        return Work(
            prompts,
            list(cut(sizes, rows, usual.max_tokens_per_request)),
            partial(self._admitted, sampling=sampling),
            self._telling(prompts),
            partial(self._sampler.check, sampling=sampling),
        )

    @http.get("/v1/policy")
    async def policy(self) -> PolicyInfo:
        """What the replica that answers samples from."""
        report = self._held.report
        return PolicyInfo(
            model=self._args.name,
            policy_version=report["version"],
            checksum=report["checksum"],
            max_model_len=self._max_model_len,
            tokenizer_fingerprint=self._fingerprint,
            schema_versions=dict.fromkeys(("prompts", "rollouts"), schema.VERSION),
            limits=self._args.limits,
            load=Load(
                requests=self._intake.in_work,
                callers_waiting=self._turns.callers,
                waiting=self._turns.waiting,
            ),
        )

    async def unfinished(self) -> int:
        """Responses this replica has not finished."""
        return self._engine.unfinished()

    async def check_health(self) -> None:
        """Asked by Serve, which replaces the replica if this raises.

        Raises:
            RuntimeError: if an update failed half-way.
            vllm.v1.engine.exceptions.EngineDeadError: if the engine's process has ended.
        """
        await self._intake.check()

    async def _check(self) -> None:
        self._held.refuse_if_broken()
        await self._engine.check_health()


def build(args: RolloutArgs) -> Application:
    """The application, for ``serve.run`` or a Serve config file."""
    return bind(RolloutService, args, health_check_period_s=10, health_check_timeout_s=60)
