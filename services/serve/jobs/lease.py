"""Who works on a job, or adds one: the lock of a file (flock), which the system takes from who ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.base.locks import try_lock

_GLANCE_S = 0.01
"""After which whoever only looked at a lock does not hold it any more."""


@contextmanager
def leased(file: Path) -> Iterator[bool]:
    """Try to be the one who holds a file's lock, for as long as the block; says whether that is so."""
    with _locked(file, fcntl.LOCK_EX) as mine:
        if mine:
            yield True
            return
    time.sleep(_GLANCE_S)
    with _locked(file, fcntl.LOCK_EX) as mine:
        yield mine


def is_free(file: Path) -> bool:
    """Whether nobody holds it."""
    with _locked(file, fcntl.LOCK_SH) as free:  # others may look at the same time
        return free


@contextmanager
def waited_for(file: Path, limit_s: float, what: str) -> Iterator[None]:
    """Wait until nobody else holds it, in whichever process, and be the one who does.

    Raises:
        TimeoutError: naming `what`, after `limit_s` seconds: whoever holds it stands still.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with _locked(file, fcntl.LOCK_EX) as mine:
            if mine:
                yield
                return
        time.sleep(_GLANCE_S)
    raise TimeoutError(f"waited {limit_s:g} s for {what}")


@contextmanager
def _locked(file: Path, how: int) -> Iterator[bool]:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:  # its folder expired
        yield False
        return
    try:
        yield try_lock(descriptor, how)
    finally:
        os.close(descriptor)
