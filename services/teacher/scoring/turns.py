"""Whose turn it is at a model: many who leave it as it is, or one who changes it for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Condition


class Turns:
    """Shared and exclusive turns among threads. While someone waits to be alone, nobody new shares: who keeps
    coming would else keep him waiting for ever.
    """

    def __init__(self) -> None:
        self._at_work = self._alone = 0
        self._changed = Condition()

    def shared(self) -> AbstractContextManager[None]:
        """Beside others who share."""
        return self._turn(lambda: not self._alone)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody beside."""
        with self._changed:
            self._alone += 1
        try:
            with self._turn(lambda: not self._at_work):
                yield
        finally:
            with self._changed:
                self._alone -= 1
                self._changed.notify_all()

    @contextmanager
    def _turn(self, may_begin: Callable[[], bool]) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(may_begin)
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()
