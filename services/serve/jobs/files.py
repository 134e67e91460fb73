"""A job's files, whole or not at all: from pieces, and known while they are written."""

from collections.abc import Iterable
from pathlib import Path

from services.base.whole_files import whole
from services.serve.http.encodings import Piece


def write_pieces(file: Path, pieces: Iterable[Piece]) -> None:
    """Write a file, from pieces that come as they are wanted, in the place of one that may be there.

    Raises:
        Exception: what ends the pieces, or an OSError of the disk; the file is what it was then.
    """
    with whole(file) as being_written, being_written.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)


def is_being_written(file: Path, name: str) -> bool:
    """Whether it is to become the file of this name; or was, when a process was killed."""
    return file.name.startswith(_before(name))


def left_over(name: str) -> str:
    """Pattern of what processes leave that are killed while they write files whose names have this one."""
    return f"{_before(name)}*"


def _before(name: str) -> str:
    return f".{name}."
