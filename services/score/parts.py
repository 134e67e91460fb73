"""What of a file is scored: parts of its rows, each a file that is there whole or not at all.

OUT.parts/asked.json      what was asked for; a later call with anything else is refused
OUT.parts/000003.parquet  scores of the fourth part
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlad_core.data import files_of
from services.base.locks import lock
from services.base.whole_files import whole, write_whole
from services.score.asking import SCORES

_ASKED = "asked.json"


class PartsError(Exception):
    """What is kept belongs to another call; the message says what to do."""


def stamp_of(path: str) -> dict[str, Any]:
    """Which files a path means, and as of when: parts of other rows are not mixed.

    Raises:
        DataError: there are none.
    """
    files = files_of(path)
    return {
        "file": {str(each.absolute()): each.stat().st_size for each in files},
        "last change": max(each.stat().st_mtime_ns for each in files),
    }


class Parts:
    """The folder with the finished parts of one output.

    Args:
        out: the file that they become.
        asked: what decides the scores: input (`stamp_of`), teacher, options.

    Raises:
        PartsError: parts are there that were made of something else, or cannot be read or written.
    """

    def __init__(self, out: Path, asked: Mapping[str, Any]) -> None:
        self._folder, self._asked = out.with_name(out.name + ".parts"), asked
        told = json.dumps(asked, indent=2, sort_keys=True)
        kept = self._folder / _ASKED
        try:
            if kept.exists():
                if (before := kept.read_bytes()) != told.encode():
                    raise PartsError(_other(self._folder, before, asked))
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(kept, told)
        except OSError as error:
            place, why = error.filename or self._folder, error.strerror or error
            raise PartsError(f"{place} cannot be read or written: {why}") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other command scores or writes the same output until the block, or this process, ends.

        Raises:
            PartsError: another one does.
        """
        with (self._folder / _ASKED).open("rb") as asked:
            told = f"another rlad score works on {self._folder}. Wait until it ends, or write another --out"
            lock(asked, PartsError(told))
            yield

    def kept(self, number: int, rows: int) -> pa.Table | None:
        """The scores of a part of so many rows, if it is finished. One that cannot be read, after a fault of
        the disk for instance, is not.
        """
        try:
            scores = self.scores(number)
        except (OSError, pa.ArrowException):
            return None
        return scores if scores.num_rows == rows and scores.schema.equals(SCORES) else None

    def keep(self, number: int, scores: pa.Table) -> None:
        """A part is finished."""
        # Opened here: Arrow takes no names that are not UTF-8.
        with whole(self._file(number)) as unfinished, unfinished.open("wb") as file:
            pq.write_table(scores, file, compression="zstd", write_page_checksum=True)

    def scores(self, number: int) -> pa.Table:
        """Those of a finished part.

        Raises:
            OSError, pyarrow.ArrowException: it is not there, or garbled.
        """
        with self._file(number).open("rb") as stream:
            return pq.ParquetFile(stream, page_checksum_verification=True).read()

    def refuse_changed(self, path: str) -> None:
        """See that the rows are still those that were scored.

        Raises:
            PartsError: somebody has changed the file since.
            DataError: it is gone.
        """
        if any(self._asked.get(name) != told for name, told in stamp_of(path).items()):
            raise self.changed(path)

    def changed(self, path: str) -> PartsError:
        """What is said of a file that was changed."""
        return PartsError(
            f"{path} was changed while it was scored, so that scores may stand beside other rows. Remove "
            f"{self._folder} and begin anew once nobody writes to it"
        )

    def remove(self) -> None:
        """The output is there; its parts are of no more use."""
        shutil.rmtree(self._folder)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06d}.parquet"


def _other(folder: Path, before: bytes, now: Mapping[str, Any]) -> str:
    anew = "Remove it to begin anew, or write another --out"
    try:
        then = dict(json.loads(before))
    except (TypeError, ValueError):
        return f"{folder} does not say any more what it holds: its {_ASKED} is garbled. {anew}"
    changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return f"{folder} holds what a command with another {', '.join(changed)} has scored. {anew}"
