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

from services.base.locks import lock
from services.base.whole_files import whole, write_whole

_ASKED = "asked.json"


class PartsError(Exception):
    """What is kept belongs to another call; the message says what to do."""


class Parts:
    """The folder with the finished parts of one output.

    Args:
        out: the file that they become.
        asked: what decides the scores: input, teacher, options.

    Raises:
        PartsError: parts are there that were made of something else, or cannot be read or written.
    """

    def __init__(self, out: Path, asked: Mapping[str, Any]) -> None:
        self._folder = out.with_name(out.name + ".parts")
        told = json.dumps(asked, indent=2, sort_keys=True)
        kept = self._folder / _ASKED
        try:
            if kept.exists():
                if (before := kept.read_text()) != told:
                    raise PartsError(_other(self._folder, json.loads(before), asked))
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

    def has(self, number: int) -> bool:
        """Whether a part is finished."""
        return self._file(number).exists()

    def keep(self, number: int, scores: pa.Table) -> None:
        """A part is finished."""
        with whole(self._file(number)) as unfinished:
            pq.write_table(scores, unfinished, compression="zstd")

    def scores(self, number: int) -> pa.Table:
        """Those of a finished part."""
        with pq.ParquetFile(self._file(number)) as file:
            return file.read()

    def remove(self) -> None:
        """The output is there; its parts are of no more use."""
        shutil.rmtree(self._folder)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06d}.parquet"


def _other(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return (
        f"{folder} holds what a command with another {', '.join(changed)} has scored. Remove it to begin "
        "anew, or write another --out"
    )
