"""The learner of a run, in a thread, so that progress can be shown and Ctrl-C be taken beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Learning:
    """Training that has begun, or is to.

    Args:
        train: returns where the learner has ended, and raises what it failed with.
        say: told when it begins.
    """

    def __init__(self, train: Callable[[], object], say: Callable[[str], None]) -> None:
        self._train, self._say = train, say
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self.failure: BaseException | None = None
        """What it ended with."""

    def begin(self) -> None:
        """Begin, unless it has."""
        if self._thread is None:
            self._say("starting the learner")
            self._thread = threading.Thread(target=self._learn, name="learner", daemon=True)
            self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether it is over; nothing else is told of one that has not begun."""
        return self._ended.is_set()

    def wait(self, limit_s: float) -> bool:
        """Wait for its end, which one that has not begun has come to; False: it goes on after the limit."""
        # Not `join`: a thread whose `join` was interrupted is taken for dead (CPython before 3.13).
        return self._thread is None or self._ended.wait(limit_s)

    def _learn(self) -> None:
        try:
            self._train()
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, whatever it is
            self.failure = error
        finally:
            self._ended.set()
