"""What is known of a model's files, and the record that says a folder has all of them."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from services.base.whole_files import write_whole

RECORD = "rlad-fetch.json"
"""In the folder: which model at which revision, and every file with size and checksum. Written last."""

_PIECE = 2**22


class FetchError(RuntimeError):
    """A model was not fetched, or not whole; the message says what to do. What has come is kept."""


class NoSuchModelError(FetchError):
    """There is nothing to fetch under this name, or not for this caller."""


@dataclass(frozen=True)
class File:
    """One file.

    Attributes:
        path: below the model's folder, with ``/`` between.
        size: bytes.
        algorithm: sha256 of large files, git's own hash of small ones, as the hub gives them.
        checksum: in hexadecimal digits.
    """

    path: str
    size: int
    algorithm: Literal["sha256", "git-sha1"]
    checksum: str

    def __post_init__(self) -> None:
        place = PurePosixPath(self.path)
        if place.is_absolute() or ".." in place.parts or not place.parts:
            raise FetchError(f"{self.path!r} is no path below a folder. Take another model or mirror")

    def is_at(self, place: Path) -> bool:
        """Whether what lies there is this file, to the last bit."""
        return place.is_file() and place.stat().st_size == self.size and digest(place, self) == self.checksum


def digest(place: Path, file: File) -> str:
    """The checksum of what lies there, by the file's algorithm."""
    if file.algorithm == "sha256":
        hashed = hashlib.sha256()
    else:
        hashed = hashlib.sha1(f"blob {place.stat().st_size}\0".encode(), usedforsecurity=False)
    with place.open("rb") as opened:
        while piece := opened.read(_PIECE):
            hashed.update(piece)
    return hashed.hexdigest()


@dataclass(frozen=True)
class Record:
    """What a folder holds.

    Attributes:
        model: as it was asked for.
        revision: the hub's commit, or a checksum over all files of a folder.
    """

    model: str
    revision: str
    files: tuple[File, ...]

    def write(self, folder: Path) -> None:
        """At once or not at all."""
        text = json.dumps({**asdict(self), "files": [asdict(file) for file in self.files]}, indent=1)
        write_whole(folder / RECORD, text + "\n")


def read_record(folder: Path) -> Record | None:
    """The record of a folder; None: it has none.

    Raises:
        FetchError: it cannot be read, or is none.
    """
    place = folder / RECORD
    try:
        text = place.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FetchError(
            f"{place} cannot be read: {error.strerror or error}. See to it that it may, and start again"
        ) from error
    try:
        read = json.loads(text)
        return Record(read["model"], read["revision"], tuple(File(**file) for file in read["files"]))
    except (ValueError, KeyError, TypeError) as error:
        raise FetchError(f"{place} is broken ({error}). Remove it, and fetch again") from error
