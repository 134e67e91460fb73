"""Whether a replica takes requests: `/healthz` (the process is up), `/readyz` (it can do its work)."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel

from services.errors import DrainingError, NotReadyError


class Health(BaseModel):
    """How the service is."""

    status: Literal["up", "ready"]


UP = Health(status="up")


class Intake:
    """The door for requests over HTTP; closed while a replica drains. Calls by handle are the run's own.

    Args:
        check: makes what the replica works with answer, or raises.
        what: names that, for the error.

    Attributes:
        in_work: requests that were let in and are not answered.
    """

    def __init__(self, check: Callable[[], Awaitable[object]], what: str) -> None:
        self._check = check
        self._what = what
        self._draining = False
        self.in_work = 0

    def close(self) -> None:
        """Take nothing new from now on."""
        self._draining = True

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Let a request in and count it while it is in work.

        Raises:
            DrainingError: the replica is shutting down.
        """
        self._refuse_if_closed()
        self.in_work += 1
        try:
            yield
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
