"""A limit for a wait, whose error says what was waited for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def limit(seconds: float, what: str) -> AsyncIterator[None]:
    """Raise `TimeoutError` naming ``what`` if the block takes longer than ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise TimeoutError(f"waited {seconds:g} s for {what}") from error
