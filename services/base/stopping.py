"""How our processes are stopped.

SIGTERM, which is how schedulers and Kubernetes stop a process, does what Ctrl-C does, and that once. A
process that works for another one ends with it.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_GRACE_S = 20.0
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


def end_with_parent() -> None:
    """See to it that this process ends with the one that started it.

    A replica that is killed takes its engine along, which would keep its memory or GPU otherwise; a command
    the ranks that train for it. Only for processes that `multiprocessing` started; others it leaves alone.

    (vLLM's workers watch the engine core like this, but the core does not watch the process it serves.)
    """
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:  # e.g. the replica itself
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)
