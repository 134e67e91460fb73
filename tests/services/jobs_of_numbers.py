"""A job for tests: numbers, doubled two a part."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow as pa

from rlad_core.client.errors import InvalidRequestError
from services.serve.http.answers import Telling
from services.serve.http.bodies import Body
from services.serve.jobs.work import Work

Do = Callable[[list[int]], Awaitable[None]]
PARTS = 5


TELLING = Telling(lambda done, _: done["number"].to_pylist())


def reading(do: Do) -> Callable[[Body, Any], Awaitable[Work]]:
    """Work of two numbers a part, which are doubled; `do` is told of each part."""

    async def read(body: Body, _query: Any) -> Work:
        numbers = json.loads(body.content)

        async def doubled(rows: pa.Table) -> pa.Table:
            given = rows["number"].to_pylist()
            await do(given)
            return pa.table({"number": [2 * number for number in given]})

        async def check(rows: pa.Table) -> None:
            if 13 in rows["number"].to_pylist():
                raise InvalidRequestError("13 is not doubled")

        return Work(
            pa.table({"number": numbers}),
            [(start, start + 2) for start in range(0, len(numbers), 2)],
            doubled,
            TELLING,
            check,
        )

    return read


BODY = Body(json.dumps(list(range(2 * PARTS))).encode(), "json", "json")
DONE = [2 * number for number in range(2 * PARTS)]
ANSWER = {"results": DONE}
