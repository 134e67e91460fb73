"""Bodies as they come in: within a size, a time, and the memory that all of them may take together.

A body is held to three limits while it arrives, so that neither a large one, nor a slow one, nor many at once
cost more than was meant:

=======================  ======  ==========================================================================
limit                    status  counted
=======================  ======  ==========================================================================
bytes of one body        413     what is announced, before anything is read; else what has come
seconds until its end    408     from the first look at it
bytes of all together    429     what has come, what it unpacks to, and what is said in it once of many rows
                                 and is written out for each; an announcement alone takes no memory, and so
                                 no place. A caller's leave some room for those of others
=======================  ======  ==========================================================================
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from rlad_core.client.errors import BusyError, LimitError, ServiceError
from services.serve.http.variables import positive
from services.serve.shares import MOST_OF_FREE

_MIB = 2**20
VARIABLES = {
    "max_bytes": "RLAD_MAX_BODY_MIB",
    "total_bytes": "RLAD_BODY_MEMORY_MIB",
    "timeout_s": "RLAD_BODY_TIMEOUT_S",
}
"""In the environment of the Ray nodes, by what they set of `BodyLimits`."""
_RETRY_AFTER_S = 1.0
_DIGITS = 20
"""Of a length: more than any memory has, and far fewer than Python refuses to make a number of."""


class SlowBodyError(ServiceError):
    """The body did not come to its end in time."""

    status = 408
    title = "The body came too slowly"
    limit = "time"


@dataclass(frozen=True)
class BodyLimits:
    """What bodies may take.

    Args:
        max_bytes: of one.
        total_bytes: of all that are held at a time, from their first byte until their request is answered.
        timeout_s: until the last byte of one.
    """

    max_bytes: int = 64 * _MIB
    total_bytes: int = 512 * _MIB
    timeout_s: float = 30.0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "BodyLimits":
        """As `VARIABLES` set them.

        Raises:
            ValueError: one is no positive number; names it.
        """
        given = {name: positive(environment, variable) for name, variable in VARIABLES.items()}
        usual = cls()
        return cls(
            max_bytes=int((given["max_bytes"] or usual.max_bytes / _MIB) * _MIB),
            total_bytes=int((given["total_bytes"] or usual.total_bytes / _MIB) * _MIB),
            timeout_s=given["timeout_s"] or usual.timeout_s,
        )


class HeldBody:
    """What is held of one body.

    Args:
        reader: that has read it, and whose limit for all together holds for what is added too.
        caller: whose it is.

    Attributes:
        size: bytes that it counts as until its request is answered, also those that were taken.
    """

    def __init__(self, reader: "BodyReader", caller: str) -> None:
        self._reader = reader
        self._caller = caller
        self._parts: list[bytes] = []
        self._lock = threading.Lock()
        self._is_answered = False
        self.size = 0

    def add(self, part: bytes) -> None:
        """Hold more: what comes, and what it unpacks to.

        Raises:
            BusyError: there is no memory for it beside the others.
        """
        self.count(len(part))
        if part:
            self._parts.append(part)

    def count(self, size: int) -> None:
        """That so many bytes more are held for it, wherever they are; also from a thread that reads it.

        Raises:
            BusyError: there is no memory for them beside the others.
        """
        with self._lock:
            if self._is_answered:  # its client has left, and the thread does not know
                return
            self.size += size
            self._reader.count(size, self.size, self._caller)

    def close(self) -> None:
        """Its request is answered: nothing is held of it."""
        with self._lock:
            self._is_answered = True
            self._reader.give_back(self.size, self._caller)

    def take(self) -> bytes:
        """All that was added since it was last taken."""
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole


class BodyReader:
    """Reads bodies within limits; one for all requests of a process.

    Attributes:
        held: bytes of the bodies that are held now.
    """

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._of: dict[str, int] = {}
        self._lock = threading.Lock()
        self.held = 0

    @asynccontextmanager
    async def reading(
        self, receive: Receive, announced: str | None, max_bytes: int | None = None, caller: str = ""
    ) -> AsyncIterator[HeldBody]:
        """A body as it came; with what is added to it, it counts as held until the block ends.

        Args:
            announced: the header ``Content-Length``.
            max_bytes: where it is not the reader's own limit.
            caller: whose bodies leave room for those of others.

        Raises:
            LimitError: more bytes than a body may have.
            SlowBodyError: its end did not come in time.
            BusyError: there is no memory for it beside the others.
            starlette.requests.ClientDisconnect: the client left before.
        """
        most = self._limits.max_bytes if max_bytes is None else max_bytes
        _refuse_over(_length(announced), most)
        body = HeldBody(self, caller)
        try:
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    while True:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            raise ClientDisconnect
                        part = message.get("body", b"")
                        _refuse_over(body.size + len(part), most)
                        body.add(part)
                        if not message.get("more_body", False):
                            break
            except TimeoutError as error:
                raise SlowBodyError(
                    f"the body did not come to its end within {self._limits.timeout_s:g} s; "
                    f"{body.size} bytes came"
                ) from error
            yield body
        finally:
            body.close()

    def count(self, size: int, own: int, caller: str) -> None:
        """That so many bytes more are held. A lone body is always taken, however little memory there is, and
        of each caller one while there is any.

        Args:
            own: of the body that they belong to, with them.
            caller: whose it is.

        Raises:
            BusyError: they are more than all bodies, or this caller's, may have. They are counted, and given
                back with the body.
        """
        with self._lock:
            self.held += size
            self._of[caller] = theirs = self._of.get(caller, 0) + size
        if self.held > self._limits.total_bytes and self.held > own:
            raise BusyError(
                f"the bodies of all requests here have {self.held} bytes together; at most "
                f"{self._limits.total_bytes} are held at a time",
                _RETRY_AFTER_S,
            )
        if theirs > own and theirs > MOST_OF_FREE * (self._limits.total_bytes - self.held):
            raise BusyError(
                f"the bodies of your requests here have {theirs} bytes together; what is left of "
                f"{self._limits.total_bytes} is for others",
                _RETRY_AFTER_S,
            )

    def give_back(self, size: int, caller: str) -> None:
        """That so many bytes of a caller's are held no longer."""
        with self._lock:
            self.held -= size
            if left := self._of.get(caller, 0) - size:
                self._of[caller] = left
            else:
                self._of.pop(caller, None)


def _length(announced: str | None) -> int:
    """What is announced; 0 where nothing is. Of one that is longer than any, its first digits."""
    digits = (announced or "").lstrip("0")[:_DIGITS]
    return int(digits) if digits.isdecimal() else 0


def _refuse_over(size: int, most: int) -> None:
    if size > most:
        raise LimitError("body", f"the body has more than {most} bytes, the most that is taken")
