"""Teacher scoring: a Serve application that tells the log-probs of given responses, by handle and over HTTP.

    serve.run(build(TeacherArgs(model="Qwen/Qwen3-8B")), name="teacher", route_prefix="/")
    scores = await handle.score.remote(sequences)          # Arrow: SEQUENCES -> TEACHER_SCORES
    curl localhost:8000/v1/score -d '{"sequences": [{"prompt_token_ids": [1], "response_token_ids": [2]}]}'

All calls of a replica share one batcher, whichever way they came (`services.scoring.batcher`).
"""

import asyncio
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, Request, Response
from ray import serve
from ray.serve import Application
from transformers import AutoTokenizer

from rlad_core import metrics, schema
from rlad_core.config import resolve_model
from services import telemetry
from services.errors import DeadlineError, LimitError, UnknownNameError
from services.problems import add_problem_handlers
from services.scoring.batcher import Batcher
from services.scoring.engines import load_engine
from services.scoring.tables import check_sequences, to_pairs, to_scores
from services.teacher_http import SCORE_DOCS, Health, TeacherInfo, read_request, write_answer
from services.teacher_settings import TeacherArgs

SERVICE = "teacher"

http = FastAPI(
    title="Teacher scoring",
    summary="Log-probs of given responses under a teacher model.",
    version="1",
)
add_problem_handlers(http)


@serve.deployment
@serve.ingress(http)
class TeacherService:
    """One replica: an engine, its batcher, and the tokenizer's fingerprint."""

    async def __init__(self, args: TeacherArgs) -> None:  # type: ignore[misc]  # Serve awaits it
        self._args = args
        model = resolve_model(args.model)
        self._name = args.name
        self._fingerprint = schema.tokenizer_fingerprint(AutoTokenizer.from_pretrained(model).get_vocab())
        # In a thread: loading takes from seconds to minutes, and Serve's probes want an answer meanwhile.
        self._engine = await asyncio.to_thread(load_engine, args, model)
        self._batcher = Batcher(self._engine, args.max_tokens_per_batch, on_batch=self._record_batch)

    async def score(self, sequences: pa.Table) -> pa.Table:
        """Log-probs of the responses; see `services.clients.TeacherClient.score`.

        Raises:
            InvalidRequestError: a sequence that cannot be scored; names it.
            LimitError: more sequences or tokens than one request may have.
            DeadlineError: not done within ``limits.timeout_s``.
            ScoringError: the engine failed.
        """
        with telemetry.request(SERVICE, "handle"):
            return await self._score(sequences)

    @http.post("/v1/score", **SCORE_DOCS)
    async def score_http(self, request: Request) -> Response:
        """Score responses: exactly one natural log-prob per response token, at temperature 1, of the whole
        vocabulary, in the order of the request.
        """
        wanted = await read_request(request, self._args.limits, self._fingerprint)
        with telemetry.request(SERVICE, wanted.encoding):
            if wanted.model not in (None, self._name):
                raise UnknownNameError(f"model {wanted.model!r} is not served here; this is {self._name!r}")
            scores = await self._score(wanted.sequences)
            return write_answer(wanted, scores, model=self._name)

    @http.get("/v1/info")
    async def info(self) -> TeacherInfo:
        """What is served here, and within which limits."""
        return TeacherInfo(
            model=self._name,
            engine=self._args.engine,
            dtype=self._args.dtype,
            max_model_len=self._engine.max_model_len,
            vocab_size=self._engine.vocab_size,
            tokenizer_fingerprint=self._fingerprint,
            schema_versions=dict.fromkeys(("sequences", "teacher_scores"), schema.VERSION),
            limits=self._args.limits,
        )

    @http.get("/healthz")
    async def alive(self) -> Health:
        """The process is up."""
        return Health(status="up")

    @http.get("/readyz")
    async def ready(self) -> Health:
        """The engine scores."""
        await self.check_health()
        return Health(status="ready")

    async def check_health(self) -> None:
        """Asked by Serve, which replaces the replica if this raises: the engine must score a token."""
        await self._engine.check_health()

    def __del__(self) -> None:
        # Serve calls this when the replica has drained. There is no engine if __init__ failed.
        if engine := getattr(self, "_engine", None):
            engine.shutdown()

    async def _score(self, sequences: pa.Table) -> pa.Table:
        with telemetry.phase(SERVICE, "decode"):
            check_sequences(
                sequences,
                vocab_size=self._engine.vocab_size,
                max_length=self._engine.max_model_len,
                tokenizer_fingerprint=self._fingerprint,
            )
            tokens = {
                kind: int(schema.lengths(sequences.column(column)).sum())
                for kind, column in (("prompt", "prompt_token_ids"), ("scored", "response_token_ids"))
            }
            self._refuse_over_limit(sequences.num_rows, sum(tokens.values()))
            pairs = to_pairs(sequences)
        limit_s = self._args.limits.timeout_s
        with telemetry.phase(SERVICE, "engine"):
            try:
                async with asyncio.timeout(limit_s):
                    scored = await self._batcher.score(pairs.pairs)
            except TimeoutError as error:
                telemetry.count(metrics.SERVICE_LIMITS, service=SERVICE, kind="time")
                raise DeadlineError(
                    f"{sequences.num_rows} sequences were not scored within {limit_s:g} s; "
                    f"{self._batcher.queue_length} more wait here"
                ) from error
        with telemetry.phase(SERVICE, "encode"):
            scores = to_scores(sequences, pairs, scored)
        telemetry.count(metrics.SERVICE_SEQUENCES, sequences.num_rows, service=SERVICE)
        for kind, number in tokens.items():
            telemetry.count(metrics.SERVICE_TOKENS, number, service=SERVICE, kind=kind)
        return scores

    def _refuse_over_limit(self, sequences: int, tokens: int) -> None:
        try:
            self._args.limits.check(sequences, tokens)
        except LimitError as error:
            telemetry.count(metrics.SERVICE_LIMITS, service=SERVICE, kind=error.limit)
            raise

    def _record_batch(self, pairs: int, tokens: int) -> None:
        telemetry.observe(metrics.SERVICE_BATCH_SEQUENCES, pairs, service=SERVICE)
        telemetry.observe(metrics.SERVICE_BATCH_TOKENS, tokens, service=SERVICE)
        telemetry.gauge(metrics.SERVICE_QUEUE, self._batcher.queue_length, service=SERVICE)


def build(args: TeacherArgs) -> Application:
    """The application, for `serve.run`, a Serve config file or Kubernetes."""
    environment = {"OMP_NUM_THREADS": str(args.threads)}
    if not args.num_gpus:
        # vLLM on CPUs otherwise pins every engine of a machine to the same cores.
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    options: dict[str, Any] = {
        "num_replicas": args.num_replicas,
        "max_ongoing_requests": args.max_ongoing_requests,
        "max_queued_requests": args.max_queued_requests,
        "backpressure_config": {"status_code": 429, "retry_after_s": 1},
        # A health check waits for the batch that is running.
        "health_check_timeout_s": 120,
        "ray_actor_options": {
            "num_cpus": args.num_cpus,
            "num_gpus": args.num_gpus,
            "runtime_env": {"env_vars": environment},
        },
    }
    deployment: Any = TeacherService  # mypy does not know what the decorators made of the class
    application: Application = deployment.options(**options).bind(args)
    return application
