"""Whether a replica takes requests: `/healthz` (the process is up), `/readyz` (it can do its work)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal

from fastapi import Request
from pydantic import BaseModel

from rlad_core.client.errors import DrainingError, NotReadyError
from services.base import telemetry
from services.serve.http.bodies import Body, encoding_of, read_body


class Health(BaseModel):
    """How the service is."""

    status: Literal["up", "ready"]


UP = Health(status="up")


class Intake:
    """The door for requests over HTTP; closed while a replica drains. Calls by handle are the run's own.

    Args:
        service: whose door it is, for metrics.
        check: makes what the replica works with answer, or raises.
        what: names that, for the error.

    Attributes:
        in_work: requests that were let in and are not answered.
    """

    def __init__(self, service: str, check: Callable[[], Awaitable[object]], what: str) -> None:
        self._service = service
        self._check = check
        self._what = what
        self._draining = False
        self.in_work = 0

    def close(self) -> None:
        """Take nothing new from now on."""
        self._draining = True

    @asynccontextmanager
    async def admit(self, request: Request, max_bytes: int) -> AsyncIterator[Body]:
        """Let a request in, read its body and count it while it is in work. Recorded from its first byte on,
        so that what is refused before its body is read is in the metrics too.

        Raises:
            DrainingError: the replica is shutting down.
            ProblemError, LimitError: see `read_body`.
        """
        with telemetry.request(self._service, encoding_of(request) or "other"):
            self._refuse_if_closed()
            self.in_work += 1
            try:
                yield await read_body(request, max_bytes)
            finally:
                self.in_work -= 1

    async def ready(self) -> Health:
        """The replica takes requests and can do its work.

        Raises:
            DrainingError: it is shutting down.
            NotReadyError: it can't.
        """
        self._refuse_if_closed()
        try:
            await self._check()
        except Exception as error:
            raise NotReadyError(f"{self._what} does not answer: {error}") from error
        return Health(status="ready")

    def _refuse_if_closed(self) -> None:
        if self._draining:
            raise DrainingError("this replica finishes what it has and takes nothing new; ask again")
