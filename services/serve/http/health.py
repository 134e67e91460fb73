"""Whether a replica takes requests: `/healthz` (the process is up), `/readyz` (it can do its work)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Concatenate, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel

from rlad_core import metrics
from rlad_core.client.errors import AsleepError, DrainingError, NotReadyError
from services.base import telemetry
from services.serve import here
from services.serve.asked_once import AskedOnce
from services.serve.fair import ASKER, OWN, Asker
from services.serve.http.bodies import Body, encoding_of, read_body
from services.serve.http.problems import documented
from services.serve.http.reading import BodyLimits, BodyReader
from services.serve.http.readings import Read, Readings, Rest
from services.serve.quotas import Quotas
from services.serve.replica_settings import ReplicaArgs
from services.serve.shares import MOST_OF_FREE, QueueShares

_RETRY_AFTER_S = 1.0
_CHECK_KEPT_S = 1.0


class Health(BaseModel):
    """How the service is."""

    status: Literal["up", "ready"]


UP = Health(status="up")


class Intake:
    """The door for requests over HTTP; closed while a replica drains. Calls by handle are the run's own.

    Args:
        service: whose door it is, for metrics.
        check: makes what the replica works with answer, or raises; within a time limit of its own.
        what: names that, for the error.
        is_asleep: whether that sleeps; requests over HTTP are then refused, while those by handle wait.
        args: how many requests may be worked on or wait here at a time, and the quota of each caller. Serve
            itself lets in more than that (`services.serve.replicas.bind`), so that one over it is refused at
            once and health has a place whatever the load.

    Attributes:
        in_work: requests that were let in and are not answered.
    """

    def __init__(
        self,
        service: str,
        check: Callable[[], Awaitable[object]],
        what: str,
        args: ReplicaArgs,
        is_asleep: Callable[[], bool] = lambda: False,
    ) -> None:
        self._service = service
        self._check = AskedOnce(check, kept_s=_CHECK_KEPT_S)
        self._what = what
        self._is_asleep = is_asleep
        self._shares = QueueShares(
            args.places,
            args.weights,
            "requests are worked on or wait",
            "requests",
            _RETRY_AFTER_S,
            MOST_OF_FREE,
        )
        self._quotas = Quotas(args.quota)
        self._draining = False
        self._reader = BodyReader(BodyLimits.of_environment())
        self._readings = Readings(args.weights)
        self._working = 0
        self.in_work = 0
        telemetry.gauge(metrics.SERVICE_CALLS_QUEUE, args.calls_queued, service=service)

    def close(self) -> None:
        """Take nothing new from now on."""
        self._draining = True

    @asynccontextmanager
    async def admit(self, request: Request, max_bytes: int) -> AsyncIterator[Body]:
        """Let a request in, read its body and count it while it is in work. Recorded from its first byte on,
        so that what is refused before its body is read is in the metrics too.

        Raises:
            DrainingError: the replica is shutting down.
            AsleepError: its engine sleeps.
            BusyError: so many requests are here already, or so many of this caller, that there is no place
                for another.
            ProblemError, LimitError, SlowBodyError: see `read_body`.
        """
        with telemetry.request(self._service, encoding_of(request) or "other"):
            self._refuse_if_closed()
            asker = Asker(request.scope.get("caller", ""))
            self._quotas.take(asker.caller, requests=1)
            ASKER.set(asker)
            self.in_work += 1
            try:
                # One that is still being read takes no place: a slow sender keeps nobody out.
                async with read_body(request, self._reader, max_bytes) as body, self._place():
                    yield body
            finally:
                self.in_work -= 1

    async def read(
        self,
        reading: Callable[Concatenate[Body, Rest], Read],
        body: Body,
        *rest: Rest.args,
        **named: Rest.kwargs,
    ) -> Read:
        """See `Readings.read`: all bodies are read through here, so that no caller's hold up another's."""
        return await self._readings.read(reading, body, *rest, **named)

    @asynccontextmanager
    async def place(self, request: Request) -> AsyncIterator[None]:
        """A place for a request that asks for no work, while what it is answered is sent.

        Raises:
            BusyError: there is none, or none for this caller.
        """
        ASKER.set(Asker(request.scope.get("caller", "")))
        async with self._place():
            yield

    def charge(self, work: float) -> None:
        """Count what the request that is being worked on asks for.

        Raises:
            QuotaError: it is more than its caller may have now.
        """
        if (caller := ASKER.get().caller) != OWN:
            self._quotas.take(caller, work=work)

    async def check(self) -> None:
        """Make what the replica works with answer. Anybody may ask, without a token: so it is asked once for
        all who do at the same time or a second later, and takes no more of it than that.

        Raises:
            Exception: it does not.
        """
        await self._check()

    async def ready(self) -> Health:
        """The replica takes requests and can do its work.

        Raises:
            DrainingError: it is shutting down.
            AsleepError: its engine sleeps.
            NotReadyError: it can't.
        """
        self._refuse_if_closed()
        try:
            await self.check()
        except Exception as error:
            raise NotReadyError(f"{self._what} does not answer: {error}") from error
        return Health(status="ready")

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        with self._shares.taken(1, self._working):
            self._working += 1
            try:
                yield
            finally:
                self._working -= 1

    def _refuse_if_closed(self) -> None:
        if self._draining:
            raise DrainingError("this replica finishes what it has and takes nothing new; ask again")
        if self._is_asleep():
            raise AsleepError(f"{self._what} sleeps while the learner of its run works; ask again")


def serve_health(intake: Intake) -> None:
    """To be called once in a replica."""
    here.keep(intake)


def add_health_routes(app: FastAPI) -> None:
    """Give a service's application the two routes."""
    app.add_api_route("/healthz", alive)
    app.add_api_route("/readyz", ready, responses=documented(503))


async def alive() -> Health:
    """The process is up."""
    return UP


async def ready() -> Health:
    """The replica can do its work or is at it, and new requests are taken."""
    return await here.part(Intake).ready()
