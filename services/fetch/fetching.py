"""A folder filled with a model, and whole before anybody reads it."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from urllib.parse import quote

from rlad_core.config import UNFINISHED
from services.base.locks import lock
from services.fetch.files import FetchError, File, NoSuchModelError, Record, read_record
from services.fetch.sources import Source
from services.fetch.writing import Part, disk_faults_told

AT_A_TIME = 4
"""Files that come side by side."""
_SPARE_BYTES = 2**26


@dataclass(frozen=True)
class Fetched:
    """What a folder has now.

    Attributes:
        came: files that were not there, or not as they should be.
        resumed_bytes: of what came, read by an earlier attempt.
    """

    record: Record
    came: tuple[File, ...]
    resumed_bytes: int


def fetch(
    source: Source, to: Path, revision: str | None = None, say: Callable[[str], None] = print
) -> Fetched:
    """Bring a model's files to a folder; what is there already is checked, and what is damaged comes anew.

    Args:
        to: made if need be. While files come they lie in its folder `UNFINISHED`, which goes when all are
        there. revision: None: the one that the folder has, else the newest.
        say: a line for each file.

    Raises:
        NoSuchModelError: there is nothing to fetch, or the folder is another model's.
        FetchError: it broke off, the disk is full, or a checksum is wrong twice. What has come is kept. The
            first that fails is told at once, and the other files stop where they are.
    """
    known = read_record(to)
    if known is not None and known.model != source.model:
        raise NoSuchModelError(f"{to} holds {known.model}. Write another folder for {source.model}")
    if known is not None and revision is None:
        revision = known.revision
    # A commit never changes, so a folder that has it needs nobody to say what it should hold.
    record = known if known is not None and known.revision == revision else source.record(revision)
    if known is not None and known.revision != record.revision:
        raise NoSuchModelError(
            f"{to} holds revision {known.revision}, which services may be reading. Write another folder for "
            f"{record.revision}"
        )
    try:  # only now, so that a model which is not there leaves no folder
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(f"{to} cannot be made: {error.strerror or error}. Write another folder") from error
    with disk_faults_told(to), _alone(to):
        missing = [file for file in record.files if not file.is_at(to / file.path)]
        parts = to / UNFINISHED
        if missing:
            parts.mkdir(exist_ok=True)
            _room(missing, to)
        resumed = sum(_bring_all(source, record, missing, to, say))
        shutil.rmtree(parts, ignore_errors=True)
        if known is None:
            record.write(to)
    return Fetched(record, tuple(missing), resumed)


@contextmanager
def _alone(to: Path) -> Iterator[None]:
    """One fetch into a folder at a time."""
    with (to / f"{UNFINISHED}.lock").open("w") as file:
        lock(file, FetchError(f"another process fetches into {to}. Wait for it, or write another folder"))
        yield


def _room(missing: list[File], to: Path) -> None:
    begun = sum(place.stat().st_size for place in (to / UNFINISHED).iterdir())
    wanted, free = sum(file.size for file in missing) - begun + _SPARE_BYTES, shutil.disk_usage(to).free
    if wanted > free:
        raise FetchError(
            f"{to} has {free / 1e9:.1f} GB left, and {wanted / 1e9:.1f} GB are to come. Make room, or write "
            "another folder"
        )


def _bring_all(
    source: Source, record: Record, missing: list[File], to: Path, say: Callable[[str], None]
) -> Iterator[int]:
    over = Event()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        coming = {pool.submit(_bring, source, record.revision, file, to, over): file for file in missing}
        try:
            for done in as_completed(coming):
                file, resumed = coming[done], done.result()
                went_on = f", {resumed:,} of them from before" if resumed else ""
                say(f"{file.path}: {file.size:,} bytes{went_on}")
                yield resumed
        finally:
            over.set()
            pool.shutdown(cancel_futures=True)


def _bring(source: Source, revision: str, file: File, to: Path, over: Event) -> int:
    """One file to its place, unless it is `over`; bytes of it that an earlier attempt had left."""
    part = to / UNFINISHED / f"{quote(file.path, safe='')}-{file.checksum[:16]}"
    for last in (False, True):
        begun = part.stat().st_size if part.exists() else 0
        if begun > file.size:
            part.unlink()
            begun = 0
        if begun < file.size or not part.exists():
            with Part(part, begun, over) as into:
                source.read(file, revision, into, begun)
                into.flush()
                os.fsync(into.fileno())
        if file.is_at(part):
            place = to / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            part.replace(place)
            return begun
        part.unlink()
        if last:
            break
    raise FetchError(
        f"{file.path} came twice and is not what the source says ({file.algorithm} {file.checksum}). Bring "
        "it there anew, or try another source or mirror (HF_ENDPOINT)"
    )
