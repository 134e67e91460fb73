"""A request as a job works on it: in parts, whose results become one answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from fastapi import Response

from rlad_core.client.errors import BusyError, DeadlineError
from services.serve.http.bodies import Body
from services.serve.http.streams import Results


@dataclass(frozen=True)
class Work:
    """What is to be done for a request.

    Args:
        rows: of the request.
        parts: first row and end of each; each is within the limits of a request.
        do: rows -> what is answered for them, as the service does it for a request.
        answer: what was done for all of them -> the answer.
        results: for an answer in lines, see `services.serve.http.streams`.
        check: rows -> what `do` would refuse of any of them is raised, and nothing done.
    """

    rows: pa.Table
    parts: Sequence[tuple[int, int]]
    do: Callable[[pa.Table], Awaitable[pa.Table]]
    answer: Callable[[pa.Table], Response]
    results: Results
    check: Callable[[pa.Table], Awaitable[None]]

    async def done(self, patience_s: float) -> AsyncIterator[tuple[int, pa.Table]]:
        """Part by part: number of its first row, and what was done for it.

        With the first part the request is accepted, and what was accepted is finished: a later one for which
        there is no room, or no more of its caller's quota, waits for it.

        Args:
            patience_s: longest wait of one part.

        Raises:
            DeadlineError: there was none within that time.
        """
        for number, (start, stop) in enumerate(self.parts or [(0, 0)]):
            rows = self.rows.slice(start, stop - start)
            yield start, await (self._patiently(rows, patience_s) if number else self.do(rows))

    async def _patiently(self, rows: pa.Table, patience_s: float) -> pa.Table:
        until = time.monotonic() + patience_s
        while True:
            try:
                return await self.do(rows)
            except BusyError as error:
                if time.monotonic() + error.retry_after_s > until:
                    raise DeadlineError(
                        f"the rest of the answer did not get its turn within {patience_s:g} s: {error}"
                    ) from error
                await asyncio.sleep(error.retry_after_s)


ReadWork = Callable[[Body, Mapping[str, list[str]]], Awaitable[Work]]
"""A body and the query beside it -> what is to be done. It refuses what the service's main route refuses."""
