"""One process at a time: what is locked by an open file."""

import fcntl
from typing import IO, Any


def lock(file: IO[Any], otherwise: Exception) -> None:
    """Be the only one who has locked this file, until it is closed or the process ends, however it ends.

    Args:
        file: open, in whatever mode.
        otherwise: what to raise where somebody else has locked it.

    Raises:
        OSError: its file system does not lock; names the file.
    """
    try:
        mine = try_lock(file.fileno(), fcntl.LOCK_EX)
    except OSError as error:
        error.filename = file.name
        raise
    if not mine:
        raise otherwise


def try_lock(descriptor: int, how: int) -> bool:
    """Lock an open file if nobody else has; says whether that is so. See `lock` for how long.

    Args:
        descriptor: of the file.
        how: ``fcntl.LOCK_EX``, or ``fcntl.LOCK_SH`` beside others who only look.

    Raises:
        OSError: its file system does not lock.
    """
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
