"""SIGTERM, which is how schedulers and Kubernetes stop a process, does what Ctrl-C does, and that once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_told = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    """For one stop it may come twice, from a pod's preStop and from the operator; neither means "at once",
    which is SIGKILL's to say.
    """
    global _told
    if not _told:
        _told = True
        signal.default_int_handler(number, frame)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt until the block ends."""
    global _told
    _told = False
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def keep_interrupting() -> None:
    """Once more, where somebody has taken the signal for himself: Ray does when it starts."""
    signal.signal(signal.SIGTERM, _interrupt)
