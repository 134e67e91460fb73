"""Whether an engine that is asked a lot still answers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Since when an engine owes an answer.

    Args:
        patience_s: how long it may work without giving any.
        clock: seconds, rising.
    """

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._open = 0
        self._since: float | None = None

    @property
    def is_made(self) -> bool:
        """Whether it has work, and has answered or been given its first piece not long ago."""
        since = self._since
        return self._open > 0 and since is not None and self._clock() - since < self._patience_s

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Around one piece of work. Giving it up is no answer: a hanging engine's callers give up too."""
        if self._since is None:
            self._since = self._clock()
        self._open += 1
        given_up = False
        try:
            yield
        except BaseException as error:
            given_up = not isinstance(error, Exception)
            raise
        finally:
            self._open -= 1
            if not given_up:
                self.answered()

    def answered(self) -> None:
        """The engine has answered something."""
        self._since = self._clock() if self._open else None
