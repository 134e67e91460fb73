"""Whose turn it is at a model: many who leave it as it is, or one who changes it for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Semaphore


class Turns:
    """Shared and exclusive turns among threads. Who waits to be alone is not overtaken for ever: those who
    have their turn finish it, and a place that becomes free is kept.

    Args:
        places: turns that are shared at a time.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = Semaphore(places)
        self._one_waits = Lock()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Beside others who share."""
        with self._free:
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody beside."""
        with self._one_waits:
            for _ in range(self._places):
                self._free.acquire()
            try:
                yield
            finally:
                self._free.release(self._places)
