r"""Verification: a Serve application that judges responses, each check within limits that end in a kill.

    rewards = await handle.verify.remote(responses)        # Arrow: RESPONSES -> REWARDS
    curl localhost:8000/v1/verify -d '{"task": "my_task", "gold": {"answer": "5"},
                                       "responses": [{"response": "It is 5."}]}'

A check that exceeds its limits, crashes or raises counts as wrong and its verdict says why, with the file
and line of a user's code; the reward is the one that `Task.failed` gives, and 0 where that fails, too, but
for what a shipped task raises of its gold. It never affects its neighbours.
What is at fault in the request itself (an unknown task, gold that a shipped task cannot read) fails the
request and names the sequence.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Query, Request, Response
from ray import serve
from ray.serve import Application

from rlad_core import metrics, schema
from rlad_core.client.errors import (
    DeadlineError,
    LimitError,
    RowError,
    UnknownNameError,
)
from rlad_core.client.forms import Load
from rlad_core.client.parts import cut
from rlad_core.client.verifier import RESPONSES_PER_PART
from rlad_core.client.verifier_forms import VerifierInfo, VerifyAnswer
from rlad_core.tasks.base import Verdict
from rlad_core.waiting import limit
from services.base import telemetry, tracing
from services.base.uncollected import uncollected
from services.serve.draining import Drains
from services.serve.http.bodies import Body, documents, whole_answer
from services.serve.http.gate import service_app
from services.serve.http.health import Intake, add_health_routes, serve_health
from services.serve.http.streams import InBatches, streamed
from services.serve.jobs.routes import add_job_routes, serve_jobs
from services.serve.jobs.work import Work, widened
from services.serve.jobs.worker import Jobs
from services.serve.kept import TellsSettings
from services.serve.replicas import begin, bind
from services.serve.shares import QueueShares
from services.serve.unfit_tables import refusal
from services.verifier.checking.messages import Check, Failed, Outcome
from services.verifier.checking.pool import CheckPool
from services.verifier.http import DOCUMENTED, EXAMPLE, TELLING, read_request
from services.verifier.settings import VerifierArgs, VerifierLimits

SERVICE = "verifier"
_PROBE_TIMEOUT_S = 60.0
_RETRY_AFTER_S = 1.0
_STREAMED = 32
"""Responses in a part of an answer that is sent as it is made; parts come together as a usual one has."""


# Before the class: Serve copies the application, and with it the functions its routes use, when it decorates.
def _table(responses: pa.Table, verdicts: list[Verdict]) -> pa.Table:
    return schema.build(
        schema.REWARDS,
        {
            "sequence_id": responses.column("sequence_id"),
            "reward": [verdict.reward for verdict in verdicts],
            "reward_parts": [verdict.parts for verdict in verdicts],
            "correct": [verdict.correct for verdict in verdicts],
            "verdict": [verdict.reason for verdict in verdicts],
        },
        tokenizer_fingerprint=schema.fingerprint_of(responses),
    )


def _alike(texts: pa.ChunkedArray) -> Iterator[str]:
    """Texts, of which equal ones of a chunk are one object."""
    for chunk in texts.chunks:
        told = chunk.dictionary_encode()
        different = told.dictionary.to_pylist()
        yield from (different[index] for index in told.indices.to_pylist())


http = service_app(SERVICE, "Verification", "Rewards of responses, and why.")
add_health_routes(http)
add_job_routes(http, DOCUMENTED, VerifyAnswer, EXAMPLE, InBatches)


@serve.deployment
@serve.ingress(http)
class VerifierService(Drains, TellsSettings):
    """One replica and its pool of worker processes."""

    async def __init__(self, args: VerifierArgs) -> None:  # type: ignore[misc]  # Serve awaits it
        begin(args)
        self._args = args
        with uncollected():
            self._pool = CheckPool(
                args.tasks,
                code=args.code,
                workers=args.workers,
                time_limit_s=args.time_limit_s,
                memory_limit_bytes=args.memory_limit_mib * 2**20,
                on_batch=lambda checks: telemetry.observe(
                    metrics.SERVICE_BATCH_SEQUENCES, checks, service=SERVICE
                ),
                on_queue=self._record_queue,
                weights=args.weights,
            )
        most = args.limits.max_queued_responses
        self._shares = QueueShares(most, args.weights, "responses wait", "responses", _RETRY_AFTER_S)
        self._intake = Intake(SERVICE, self._probe, "a worker process", args)
        self._jobs = Jobs(SERVICE, args.jobs_dir, args.jobs, self._read_job)
        serve_health(self._intake)
        serve_jobs(self._jobs, self._intake, args.jobs.keep_s, args.limits.max_body_bytes)
        await self._pool.start()

    async def verify(self, responses: pa.Table) -> pa.Table:
        """Judge responses.

        Args:
            responses: RESPONSES, any number of rows.

        Returns:
            REWARDS, the same ids in the same order.

        Raises:
            InvalidRequestError: not a RESPONSES table, or gold that its task cannot read; names the sequence.
            UnknownNameError: a task that is not judged here.
            LimitError: more responses than one request may have.
            DeadlineError: not done within ``limits.timeout_s``.
        """
        with (
            tracing.carried(responses, telemetry.run_name()) as responses,
            telemetry.request(SERVICE, "handle"),
        ):
            return await self._verify(responses)

    @http.post("/v1/verify", **documents(DOCUMENTED, VerifyAnswer, EXAMPLE))
    async def verify_http(
        self,
        request: Request,
        query: Annotated[InBatches, Query()],
    ) -> Response:
        """Judge responses; the verdicts come in the order of the request."""
        async with AsyncExitStack() as held:
            body = await held.enter_async_context(
                self._intake.admit(request, self._args.limits.max_body_bytes)
            )
            if body.answer == "ndjson" or (query.stream and body.answer == "arrow"):
                work = await self._work(body, self._args.limits, _STREAMED)
                parts = work.done(self._args.limits.timeout_s, RESPONSES_PER_PART // _STREAMED)
                return await streamed(parts, work.telling, body, held.pop_all())
            responses = await self._intake.read(read_request, body, self._pool.tasks, self._args.limits)
            rewards = await self._verify(responses)
            return await asyncio.to_thread(whole_answer, TELLING, rewards, body)

    async def _read_job(self, body: Body, query: Mapping[str, list[str]]) -> Work:
        """See `services.serve.jobs.work.ReadWork`."""
        limits = widened(
            self._args.limits,
            self._args.jobs.requests_per_job,
            "max_responses_per_request",
            "max_solved_prompts_per_request",
        )
        return await self._work(body, limits)

    async def _work(self, body: Body, limits: VerifierLimits, in_a_part: int = RESPONSES_PER_PART) -> Work:
        """A request in parts, of so many responses each."""
        rows = await self._intake.read(read_request, body, self._pool.tasks, limits)
        most = min(in_a_part, self._args.limits.max_responses_per_request)
        return Work(
            rows,
            list(cut([1] * rows.num_rows, most, most)),
            self._verify,
            TELLING,
            self._check,
        )

    @http.get("/v1/info")
    async def info(self) -> VerifierInfo:
        """What is judged here, and within which limits."""
        args = self._args
        return VerifierInfo(
            tasks=list(args.tasks),
            check_time_limit_s=args.time_limit_s,
            check_memory_limit_mib=args.memory_limit_mib,
            schema_versions=dict.fromkeys(("responses", "rewards"), schema.VERSION),
            load=Load(
                requests=self._intake.in_work,
                callers_waiting=self._pool.callers,
                waiting=self._pool.queue_length,
            ),
            **args.limits.model_dump(),
        )

    async def _probe(self) -> None:
        async with limit(_PROBE_TIMEOUT_S, "the worker processes"):
            await self._pool.start()

    def _record_queue(self, checks: int) -> None:
        telemetry.gauge(metrics.SERVICE_QUEUE, checks, service=SERVICE)
        telemetry.gauge(metrics.SERVICE_CALLERS, self._pool.callers, service=SERVICE)

    def __del__(self) -> None:
        if jobs := getattr(self, "_jobs", None):
            jobs.stop()  # first: what fails for want of workers is left to other replicas
        if pool := getattr(self, "_pool", None):
            pool.close()

    async def _verify(self, responses: pa.Table) -> pa.Table:
        limit_s = self._args.limits.timeout_s
        with ExitStack() as room:
            with telemetry.phase(SERVICE, "decode"):
                self._refuse_over(responses.num_rows)
                room.enter_context(self._shares.taken(responses.num_rows, self._pool.queue_length))
                checks, ids = self._read(responses)
                self._intake.charge(len(checks))
            try:
                with telemetry.phase(SERVICE, "queue") as phase:
                    async with asyncio.timeout(limit_s):
                        verdicts = await self._judge(checks, ids, lambda: phase.change("engine"))
            except TimeoutError as error:
                raise DeadlineError(f"{len(ids)} responses were not judged within {limit_s:g} s") from error
        telemetry.count(metrics.SERVICE_SEQUENCES, len(ids), service=SERVICE)
        with telemetry.phase(SERVICE, "encode"):
            return _table(responses, verdicts)

    def _refuse_over(self, rows: int) -> None:
        if rows > (most := self._args.limits.max_responses_per_request):
            raise LimitError("sequences", f"{rows} responses in one request; at most {most} are taken")

    def _read(self, responses: pa.Table) -> tuple[list[Check], list[str]]:
        self._refuse_unfit(responses)
        ids = responses.column("sequence_id").to_pylist()
        # What is said once of all of them is one string, however long it is.
        tasks, golds = (_alike(responses.column(name)) for name in ("task", "gold"))
        texts = responses.column("response").to_pylist()
        checks = [Check(*row) for row in zip(tasks, texts, golds, strict=True)]
        return checks, ids

    async def _check(self, responses: pa.Table) -> None:
        await asyncio.to_thread(self._refuse_unfit, responses)

    def _refuse_unfit(self, responses: pa.Table) -> None:
        """See that they are RESPONSES, of tasks that are judged here."""
        try:
            schema.validate(responses, schema.RESPONSES)
        except schema.SchemaError as error:
            raise refusal(error, "responses", responses) from error
        tasks = self._args.tasks
        place = pc.index(pc.is_in(responses.column("task"), pa.array(list(tasks), pa.string())), False)
        if (row := place.as_py()) >= 0:
            sequence_id, task = (responses.column(name)[row].as_py() for name in ("sequence_id", "task"))
            raise UnknownNameError(
                f"sequence {sequence_id[:100]!r}: task {task[:100]!r} is not judged here; "
                f"known are {', '.join(tasks)}"
            )

    async def _judge(
        self, checks: list[Check], ids: list[str], on_taken: Callable[[], None]
    ) -> list[Verdict]:
        outcomes = await self._pool.judge(checks, on_taken)
        failed = {place: o for place, o in enumerate(outcomes) if isinstance(o, Failed)}
        # Its reward is the task's to say. This also tells gold that is no gold from a response that the check
        # stumbled over. The responses of a group have one gold.
        asked = list(dict.fromkeys(Check(checks[p].task, None, checks[p].gold) for p in failed))
        instead = dict(zip(asked, await self._pool.judge(asked), strict=True))
        for place, failure in failed.items():
            check = checks[place]
            outcomes[place] = self._as_wrong(
                failure, instead[Check(check.task, None, check.gold)], check.task, ids[place], place
            )
        return [outcome for outcome in outcomes if isinstance(outcome, Verdict)]

    def _as_wrong(
        self, failure: Failed, instead: Outcome, task: str, sequence_id: str, place: int
    ) -> Verdict:
        sequence_id = sequence_id[:100]  # in the log it may not be as long as it was sent
        if isinstance(instead, Failed):
            # Only what a shipped task raises is about the gold. A limit or a crash says nothing of it, and a
            # user's own code may fail whatever the gold is.
            if instead.kind == "error" and not self._pool.is_users(task):
                raise RowError(
                    f"sequence {sequence_id!r}: its gold is at fault: without a response, too, "
                    f"the check {instead.why}",
                    "responses",
                    place,
                    "gold",
                )
            telemetry.log("failed_unknown", level="warning", sequence_id=sequence_id, why=instead.why)
            instead = Verdict(0.0, {}, False, "")
        if failure.kind in ("time", "memory"):
            telemetry.count(metrics.SERVICE_LIMITS, service=SERVICE, kind=failure.kind)
        else:
            telemetry.count(metrics.SERVICE_ERRORS, service=SERVICE, kind=failure.kind)
        telemetry.log("check_failed", level="warning", sequence_id=sequence_id, why=failure.why)
        return Verdict(instead.reward, instead.parts, False, f"the check {failure.why}; counts as wrong")


def build(args: VerifierArgs) -> Application:
    """The application, for `serve.run`, a Serve config file or Kubernetes."""
    return bind(VerifierService, args)
