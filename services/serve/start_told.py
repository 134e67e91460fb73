"""What the start of Ray waits for, told from time to time: on a busy machine it takes minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

_TELL_EVERY_S = 10.0


class StartTold:
    """What is waited for, as those say who wait.

    Attributes:
        waits_for: what that is now, in words.
        attempt: which one of how many; empty where there is one alone.
    """

    def __init__(self) -> None:
        self.waits_for = self.attempt = ""

    def after(self, work: Callable[[], None], during: str, then: str) -> Callable[[], None]:
        """Work that says what is waited for during it, and then."""

        @wraps(work)
        def told() -> None:
            self.waits_for = during
            work()
            self.waits_for = then

        return told


@contextmanager
def start_told(say: Callable[[str], None], waits_for: str) -> Iterator[StartTold]:
    """Tell what the block waits for.

    Args:
        say: told of it; called in a thread of its own, since Ray waits in C++.
        waits_for: what it is at first.
    """
    told, over, began = StartTold(), threading.Event(), time.monotonic()
    told.waits_for = waits_for

    def tell() -> None:
        while not over.wait(_TELL_EVERY_S):
            attempt = f" ({told.attempt})" if told.attempt else ""
            say(f"waiting for {told.waits_for} since {time.monotonic() - began:.0f} s{attempt}")

    thread = threading.Thread(target=tell, name="ray-start-told", daemon=True)
    thread.start()
    try:
        yield told
    finally:
        over.set()
        thread.join()  # what is said next stands behind it
