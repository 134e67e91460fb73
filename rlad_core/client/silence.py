"""Saying that a service does not answer: after 10 s, and every 30 s for as long as somebody waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rlad_core.proxies import through

SAY_AFTER_S, SAY_EVERY_S = 10.0, 30.0


class Silence:
    """Of one service: told of each attempt that failed and of each answer; to be used on one event loop.

    Args:
        url: of the service, for the words.
        say: gets them; None: nobody.
        after_s, every_s: when they are said.
    """

    def __init__(
        self,
        url: str,
        say: Callable[[str], None] | None,
        after_s: float = SAY_AFTER_S,
        every_s: float = SAY_EVERY_S,
    ) -> None:
        self._url, self._say = url, say
        self._after_s, self._every_s = after_s, every_s
        self._since: float | None = None
        self._cause = ""
        self._told = False
        self._timer: asyncio.TimerHandle | None = None

    def failed(self, cause: str, begun: float) -> None:
        """An attempt that began at `begun` (monotonic) failed, and another one will be made."""
        self._cause = cause
        if self._since is None and self._say is not None:
            self._since = begun
            self._in(max(0.0, begun + self._after_s - time.monotonic()))

    def over(self) -> None:
        """It has answered."""
        if self._told and self._say is not None and self._since is not None:
            self._say(f"{self._url} answers again, after {time.monotonic() - self._since:.0f} s")
        self.close()

    def close(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._since, self._told, self._timer = None, False, None

    def _in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._tell)

    def _tell(self) -> None:
        assert self._say is not None
        assert self._since is not None
        self._told = True
        waited = time.monotonic() - self._since
        self._say(f"{self._url} does not answer{through(self._url)}, for {waited:.0f} s now: {self._cause}")
        self._in(self._every_s)
