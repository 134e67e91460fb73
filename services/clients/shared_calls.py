"""Calls of many groups to one service, put together where they would wait anyway.

A call costs its two processes several milliseconds of CPU, whatever is asked, and groups of one length end at
the same time: dozens of calls, while every core is at work. So few small calls are under way at a time, and
what comes meanwhile goes together when one of them is answered, or has taken so long that nobody is to wait
for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from rlad_core.waiting import Once
from services.base import tracing

AT_ONCE = 4
"""Small calls under way, beyond which others wait for company."""
LARGE = 64 * 1024
"""Bytes of a table that goes alone: beside its own work a call costs nothing."""
PATIENCE_S = 0.5
"""How long a call keeps others waiting."""

Ask = Callable[[pa.Table], Awaitable[pa.Table]]
"""Rows with a ``sequence_id`` -> an answer with the same ids, in any order."""


@dataclass(eq=False)
class _Part:
    table: pa.Table
    told: asyncio.Future[pa.Table]
    context: Context
    span: str | None
    asked_with: str | None = None
    """The span of the caller whose call it went along with, below which the service's spans are."""


class SharedCalls:
    """Asks a service for several callers; to be used on one event loop.

    Args:
        ask: the call. When it fails, it does for all who have a part in it.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiting: deque[_Part] = deque()
        self._under_way = 0

    async def __call__(self, table: pa.Table) -> pa.Table:
        """The answer to these rows, alone or as a part of a larger one."""
        if table.nbytes >= LARGE:
            return await self._ask(table)
        told: asyncio.Future[pa.Table] = asyncio.get_running_loop().create_future()
        part = _Part(table, told, copy_context(), tracing.span_id())
        self._waiting.append(part)
        self._begin()
        answer = await told
        if part.asked_with is not None:
            tracing.note(asked_with=part.asked_with)
        return answer

    def _begin(self) -> None:
        while self._under_way < AT_ONCE and (parts := self._together()):
            self._under_way += 1
            over = Once(self._is_over)
            loop = asyncio.get_running_loop()
            late = loop.call_later(PATIENCE_S, over)
            call = loop.create_task(self._call(parts), context=parts[0].context)
            call.add_done_callback(partial(_over, late, over))
            for part in parts[1:]:
                part.asked_with = parts[0].span
            for part in parts:
                part.told.add_done_callback(partial(_end_if_unwanted, parts, call))

    def _is_over(self) -> None:
        self._under_way -= 1
        self._begin()

    def _together(self) -> list[_Part]:
        """The parts of the next call; none where nobody waits."""
        parts: list[_Part] = []
        size = 0
        while self._waiting:
            part = self._waiting[0]
            if not part.told.done():  # else its caller has left
                size += part.table.nbytes
                if parts and (size > LARGE or part.table.schema != parts[0].table.schema):
                    break
                parts.append(part)
            self._waiting.popleft()
        return parts

    async def _call(self, parts: list[_Part]) -> None:
        try:
            answer = await self._ask(pa.concat_tables([part.table for part in parts]))
            for part in parts:
                if not part.told.done():
                    part.told.set_result(_answer_to(part.table, answer) if len(parts) > 1 else answer)
        except Exception as error:  # noqa: BLE001 - it is handed to everyone who has a part in the call
            for part in parts:
                if not part.told.done():
                    part.told.set_exception(error)
        finally:
            for part in parts:
                part.told.cancel()


def _answer_to(asked: pa.Table, answer: pa.Table) -> pa.Table:
    return answer.filter(pc.is_in(answer.column("sequence_id"), asked.column("sequence_id")))


def _over(late: asyncio.TimerHandle, over: Callable[[], None], _: asyncio.Task[None]) -> None:
    late.cancel()
    over()


def _end_if_unwanted(parts: list[_Part], call: asyncio.Task[None], _: asyncio.Future[pa.Table]) -> None:
    if all(part.told.cancelled() for part in parts):
        call.cancel()
