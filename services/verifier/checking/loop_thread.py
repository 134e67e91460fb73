"""An event loop in a thread of its own, whose coroutines can be awaited on any other loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_TELLING_S = 0.1


class LoopThread:
    """Runs until `stop`.

    Args:
        name: of the thread.

    Attributes:
        loop: to be used in its own thread alone.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What a coroutine returns or raises there; cancelling the call cancels it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def stop(self, last: Callable[[], None]) -> None:
        """Call something there, let everybody who waits hear of it, and end."""

        def end() -> None:
            last()
            self.loop.call_later(_TELLING_S, self.loop.stop)

        self.loop.call_soon_threadsafe(end)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.get_loop().run_forever()
