"""What comes, written to a disk that may be full, until another file of the model has failed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from services.fetch.files import FetchError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Part(io.BufferedWriter):
    """What has come of a file.

    A disk's faults are told here: a source, which writes to it, would take them for its own.

    Args:
        place: of it; what is there is kept where something was `begun`.
        over: set when the rest need not come any more.
    """

    def __init__(self, place: Path, begun: int, over: Event) -> None:
        super().__init__(io.FileIO(place, "ab" if begun else "wb"))
        self._place, self._over = place, over

    def write(self, piece: ReadableBuffer, /) -> int:
        """Write a piece.

        Raises:
            FetchError: the disk does not take it, or nobody waits for it any more.
        """
        if self._over.is_set():
            raise FetchError("another file failed, so this one was left")
        with disk_faults_told(self._place.parent):
            return super().write(piece)


@contextmanager
def disk_faults_told(folder: Path) -> Iterator[None]:
    """What the file system says, for people.

    Args:
        folder: named where the error names no file.

    Raises:
        FetchError: it was an OSError.
    """
    try:
        yield
    except OSError as error:
        raise FetchError(
            f"{error.filename or folder}: {error.strerror or error}. Make room there, or see to it "
            "that it may be read and written, and start again: what has come is kept. Or write another folder"
        ) from error
