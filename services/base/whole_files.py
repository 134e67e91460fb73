"""Files that are there whole or not at all, whatever happens to the process or the machine meanwhile.

What becomes NAME is written beside it as ``.NAME.3f9a1c02.unfinished``, brought to the disk, and takes NAME's
place in one move. Whoever reads sees the file that was there before or the new one, and two that write the
same file do not meet. A kill leaves what was unfinished; nothing reads it.
"""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".unfinished"
"""What the name of a file that is not whole yet ends with."""


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Write a file in the place of one that may be there.

    Yields:
        Where to write it. It is `file` when the block ends; where that raises, all is as it was.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        yield unfinished
        with unfinished.open("r+b") as written:
            os.fsync(written.fileno())
        unfinished.replace(file)
    except BaseException:
        with suppress(OSError):  # what is told is why it was not written
            unfinished.unlink(missing_ok=True)
        raise


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, in the place of one that may be there.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    with whole(file) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Take away what writers left that were killed. Only for who alone writes there.

    Args:
        name: of the file that it was to become; None: of any.

    Raises:
        OSError: it cannot be taken away.
    """
    for left in folder.glob(f".{'*' if name is None else glob.escape(name)}.*{UNFINISHED}"):
        left.unlink(missing_ok=True)
