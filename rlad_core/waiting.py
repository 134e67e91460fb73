"""Waiting within a limit that says what was waited for, and for several coroutines that must all succeed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


@asynccontextmanager
async def limit(seconds: float, what: str) -> AsyncIterator[None]:
    """Raise `TimeoutError` naming ``what`` if the block takes longer than ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise TimeoutError(f"waited {seconds:g} s for {what}") from error


async def all_of(work: Iterable[Coroutine[Any, Any, Result]], *, at_most: int | None = None) -> list[Result]:
    """The results, in order. When one fails the others are cancelled.

    Args:
        at_most: how many run at a time; None: all.

    Raises:
        Exception: the first failure, as it is and not in a group.
    """
    if at_most is not None:
        work = _in_turn(work, asyncio.Semaphore(at_most))
    failures: list[BaseException] = []

    def note(task: asyncio.Task[Result]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)

    # No TaskGroup: before Python 3.13 one that fails while it is waited for leaves a request to cancel with
    # its caller, whose next time limit then ends in CancelledError and not in TimeoutError.
    tasks: list[asyncio.Task[Result]] = []
    try:
        for each in work:
            tasks.append(asyncio.create_task(each))
            tasks[-1].add_done_callback(note)
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        if left := [task for task in tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left)
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]


def _in_turn(
    work: Iterable[Coroutine[Any, Any, Result]], places: asyncio.Semaphore
) -> list[Coroutine[Any, Any, Result]]:
    async def take_place(each: Coroutine[Any, Any, Result]) -> Result:
        try:
            async with places:
                return await each
        finally:
            each.close()  # one that never got a place

    return [take_place(each) for each in work]


async def in_parts(
    work: Iterable[Coroutine[Any, Any, Result]], *, company_s: float, limit_s: float, what: str
) -> AsyncGenerator[list[Result], None]:
    """The results as they come: what finished within `company_s` seconds of a part's first goes together.

    Leaving it early cancels what is not finished.

    Raises:
        TimeoutError: naming `what`, after `limit_s` seconds.
        Exception: the first failure, as it is; the others are cancelled.
    """
    tasks = {asyncio.ensure_future(each) for each in work}
    clock = asyncio.get_running_loop().time
    deadline = clock() + limit_s
    try:
        while tasks:
            until = max(0.0, deadline - clock())
            done, tasks = await asyncio.wait(tasks, timeout=until, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TimeoutError(f"waited {limit_s:g} s for {what}")
            if tasks:
                more, tasks = await asyncio.wait(tasks, timeout=company_s)
                done |= more
            yield [task.result() for task in done]
    finally:
        for task in tasks:
            task.cancel()


class Once:
    """Passes on the first of its calls."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()
