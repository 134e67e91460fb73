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
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise otherwise from error
    except OSError as error:
        error.filename = file.name
        raise
