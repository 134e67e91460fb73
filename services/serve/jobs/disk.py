"""What touches the disk does so in a thread: one that does not answer, as over a network, holds up nobody."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def on_disk(do: Callable[[], T]) -> T:
    """Do it in a thread, and to its end: whoever is cancelled meanwhile hears of it when it is done, so that
    no lease is taken and no file is written behind the back of who has gone.
    """
    doing = asyncio.get_running_loop().run_in_executor(None, do)
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait({doing})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from doing.exception()
    return doing.result()
