"""A request as a job works on it: in parts, whose results become one answer."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pyarrow as pa
from pydantic import BaseModel

from rlad_core import schema
from rlad_core.client.errors import BusyError, DeadlineError, RowError, ServiceError
from rlad_core.client.made_with import differing, made_with_of
from services.serve.http.answers import Part, Telling
from services.serve.http.bodies import Body
from services.serve.jobs.errors import ChangedError

Limits = TypeVar("Limits", bound=BaseModel)
Do = Callable[[pa.Table], Awaitable[pa.Table]]
DoPart = Callable[[], Awaitable[pa.Table]]
_AGAIN_AFTER_S = 2.0


@dataclass(frozen=True)
class Work:
    """What is to be done for a request.

    Args:
        rows: of the request.
        parts: first row and end of each; each is within the limits of a request.
        do: rows -> what is answered for them, as the service does it for a request.
        telling: how the answer tells what was done.
        check: rows -> what `do` would refuse of any of them is raised, and nothing done.
    """

    rows: pa.Table
    parts: Sequence[tuple[int, int]]
    do: Do
    telling: Telling
    check: Callable[[pa.Table], Awaitable[None]]

    async def done(self, patience_s: float, at_a_time: int = 1) -> AsyncIterator[Part]:
        """Part by part, in order: number of its first row, and what was done for it.

        With the first part the request is accepted, and what was accepted is finished: a later one for which
        there is no room, or no more of its caller's quota, waits for it. So what would be refused of any part
        is refused before the first one.

        Args:
            patience_s: longest wait of one part.
            at_a_time: parts that are worked on together.

        Raises:
            DeadlineError: there was none within that time.
        """
        if len(self.parts) > 1:
            await self.check(self.rows)
        left = deque(enumerate(self.parts or [(0, 0)]))
        working = deque[tuple[int, asyncio.Future[pa.Table]]]()
        try:
            while left or working:
                while left and len(working) < at_a_time:
                    number, (start, stop) = left.popleft()
                    do = partial(self.part, start, stop)
                    doing = self._later(do, patience_s) if number else do()
                    working.append((start, asyncio.ensure_future(doing)))
                yield working[0][0], await working[0][1]
                working.popleft()
        finally:  # where one fails, or the client has left
            for _, done in working:
                done.cancel()

    async def part(self, start: int, stop: int) -> pa.Table:
        """What is done for some of the rows.

        Raises:
            RowError: one of them is refused; told by its place among all rows.
        """
        try:
            return await self.do(self.rows.slice(start, stop - start))
        except RowError as error:
            raise error.behind(start) from error

    async def _later(self, do: DoPart, patience_s: float) -> pa.Table:
        until = time.monotonic() + patience_s
        return await patiently(
            do,
            again=(BusyError,),
            left_s=lambda: until - time.monotonic(),
            late=f"the rest of the answer did not get its turn within {patience_s:g} s: ",
        )


def widened(limits: Limits, times: int, *fields: str) -> Limits:
    """A service's limits for a job, of which these fields are so many times those of a request."""
    return limits.model_copy(update={name: getattr(limits, name) * times for name in fields})


def refuse_mixed(first: pa.Schema, part: pa.Schema) -> None:
    """See that two parts of an answer were made with the same, as far as their schemas say.

    Raises:
        ChangedError: they were not.
    """
    tables = first.empty_table(), part.empty_table()
    differs = differing(*map(made_with_of, tables))
    one, other = map(schema.fingerprint_of, tables)
    if differs is None and one != other:
        differs = f"tokenizer: {one} and {other}"
    if differs is not None:
        raise ChangedError(f"its parts would not be of one kind ({differs}); hand it in again")


async def patiently(
    do: DoPart, *, again: tuple[type[ServiceError], ...], left_s: Callable[[], float], late: str
) -> pa.Table:
    """Do a part, again and again where it does not get a turn.

    Args:
        again: what says so; when to ask again it may say too (`retry_after_s`).
        left_s: seconds in which it may still be begun anew.
        late: what is said then, before the last fault.

    Raises:
        DeadlineError: it did not get one in time.
    """
    while True:
        try:
            return await do()
        except again as error:
            after_s = getattr(error, "retry_after_s", _AGAIN_AFTER_S)
            if after_s > left_s():
                raise DeadlineError(f"{late}{error}") from error
            await asyncio.sleep(after_s)


ReadWork = Callable[[Body, Mapping[str, list[str]]], Awaitable[Work]]
"""A body and the query beside it -> what is to be done. It refuses what the service's main route refuses."""
