"""Answers that this process has not sent whole, so that whoever ends it can wait for them.

A replica is through with a request when its answer is on its way, and Serve's proxy is when it has given all
of that to the connection, where the rest lies until the client takes it.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from services.serve.http.slow_clients.lying import lies_in


class Unsent:
    """Of one process; to be used on its event loop."""

    def __init__(self) -> None:
        # When each began: of those that are being answered, and of connections that the rest of one lies on.
        self._answered: dict[object, float] = {}
        self._lying: dict[asyncio.Transport, float] = {}

    @contextmanager
    def answering(self, connection: asyncio.Transport) -> Iterator[None]:
        """Around the answer to one request of a connection."""
        mark, began = object(), time.monotonic()
        self._answered[mark] = began
        try:
            yield
        finally:
            del self._answered[mark]
            if lies_in(connection):
                self._forget()
                self._lying[connection] = began

    def count(self, before: float) -> int:
        """How many are not sent whole, of requests that came before a moment.

        Args:
            before: as `time.monotonic` says, which is one for all processes of a machine.
        """
        self._forget()
        return sum(began < before for began in (*self._answered.values(), *self._lying.values()))

    def _forget(self) -> None:
        self._lying = {each: began for each, began in self._lying.items() if lies_in(each)}


UNSENT = Unsent()
"""This process's."""
