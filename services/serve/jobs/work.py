"""A request as a job works on it: in parts, whose results become one answer."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from fastapi import Response

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

    async def done(self) -> AsyncIterator[tuple[int, pa.Table]]:
        """Part by part: number of its first row, and what was done for it."""
        for start, stop in self.parts or [(0, 0)]:
            yield start, await self.do(self.rows.slice(start, stop - start))


ReadWork = Callable[[Body, Mapping[str, list[str]]], Awaitable[Work]]
"""A body and the query beside it -> what is to be done. It refuses what the service's main route refuses."""
