"""What is kept of an evaluation while it goes on: every response, in Parquet, as soon as it is judged.

    FOLDER/settings.json         what responses depend on beside prompt and sample; names the folder
    FOLDER/responses.parquet     ANSWERS, written whole at the end
    FOLDER/responses-*.parquet   those that this judge was not asked about, with an earlier one's verdicts
    FOLDER/parts/*.parquet       the same, of an evaluation that goes on or was stopped
    FOLDER/asked.json            what was asked for last, see `services.report.asked`
    FOLDER/lock                  held by the process that writes

A folder holds one model with one way of sampling. So whoever asks for more samples or other prompts later
goes on with what is there.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from rlad_core.evaluation import ANSWERS
from services.base.locks import lock
from services.base.whole_files import remove_unfinished, whole, write_whole

SETTINGS, RESPONSES, PARTS = "settings.json", "responses.parquet", "parts"
_JUDGE = b"rlad.judge"
"""In a file's metadata: who gave its verdicts, see `AnswerStore`."""

Key = tuple[str, str, int]
"""Prompt, subset and number of the sample."""


class StoreError(Exception):
    """The folder cannot be used; says why."""


class AnswerStore:
    """The answers of one model; a context that holds the folder's lock.

    Args:
        folder: made where it is missing.
        settings: what the responses depend on.
        judge: what their verdicts depend on. Those of another judge are given again, to the same responses.

    Raises:
        StoreError: another process writes there.
        OSError: it cannot be written to, or not locked.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], judge: str) -> None:
        self.folder = folder
        self._judge = judge
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
        self._rows: dict[Key, dict[str, Any]] = {}
        self._responses: dict[tuple[str, int], dict[str, Any]] = {}
        self._others: dict[str, dict[Key, dict[str, Any]]] = {}
        """By their judges."""
        self._unwritten: list[dict[str, Any]] = []
        self._lock: IO[str] = (folder / "lock").open("w")
        try:
            told = f"another evaluation writes to {folder}; wait for it, or write --out"
            lock(self._lock, StoreError(told))
            remove_unfinished(folder, RESPONSES)
            remove_unfinished(folder / PARTS)
            write_whole(folder / SETTINGS, json.dumps(settings, indent=2, sort_keys=True) + "\n")
            self._take_in(_files(folder))
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        self._lock.close()

    def gold(self, *key: *Key) -> str | None:
        """What that response was judged by; None: it was not judged."""
        row = self._rows.get(key)
        return None if row is None else str(row["gold"])

    def response(self, prompt_id: str, sample: int) -> dict[str, Any] | None:
        """A row with that response, its verdict perhaps another judge's or another subset's."""
        return self._responses.get((prompt_id, sample))

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Keep rows of ANSWERS; they are on disk after `flush`."""
        for row in rows:
            self._rows[row["prompt_id"], row["subset"], row["sample_index"]] = row
            self._responses[row["prompt_id"], row["sample_index"]] = row
            self._unwritten.append(row)

    def flush(self) -> None:
        """Write what was added."""
        if not self._unwritten:
            return
        name = f"{time.time_ns():020d}.parquet"
        _write(self.folder / PARTS / name, self._table(self._unwritten))
        self._unwritten = []

    def merge(self) -> None:
        """All of it into one file, in place of the parts; beside it what others judged and this one not."""
        self.flush()
        parts = sorted((self.folder / PARTS).glob("*.parquet"))
        if not parts:
            return
        before = set(_others(self.folder))
        for judge, rows in self._others.items():
            if left := [row for key, row in rows.items() if key not in self._rows]:
                digest = hashlib.blake2b(judge.encode(), digest_size=4).hexdigest()
                other = self.folder / f"{Path(RESPONSES).stem}-{digest}.parquet"
                _write(other, self._table(left, judge))
                before.discard(other)
        _write(self.folder / RESPONSES, self._table(list(self._rows.values())))
        for written in (*parts, *before):
            written.unlink()

    def table(self, keys: Iterable[Key]) -> pa.Table:
        """ANSWERS of these, in this order."""
        return self._table([self._rows[key] for key in keys])

    def _take_in(self, files: Iterable[Path]) -> None:
        for file in files:
            table = _read(file)
            judged_by = (table.schema.metadata or {}).get(_JUDGE, b"").decode()
            rows = self._rows if judged_by == self._judge else self._others.setdefault(judged_by, {})
            for row in _rows(table):
                self._responses[row["prompt_id"], row["sample_index"]] = row
                rows[row["prompt_id"], row["subset"], row["sample_index"]] = row

    def _table(self, rows: Sequence[dict[str, Any]], judge: str | None = None) -> pa.Table:
        table = pa.Table.from_pylist(list(rows), schema=ANSWERS)
        return table.replace_schema_metadata({_JUDGE: (self._judge if judge is None else judge).encode()})


def folder_name(label: str, settings: dict[str, Any]) -> str:
    """The folder of a model with these settings: its name for people, and a hash of all of them."""
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=4).hexdigest()
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(Path(label).parts[-2:])).strip("-.")
    return f"{words[-60:] or 'model'}-{digest}"


def _files(folder: Path) -> list[Path]:
    whole = folder / RESPONSES
    parts = sorted((folder / PARTS).glob("*.parquet"))
    return [*_others(folder), *([whole] if whole.exists() else []), *parts]


def _others(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{Path(RESPONSES).stem}-*.parquet"))


def _read(file: Path) -> pa.Table:
    try:
        with pq.ParquetFile(file) as opened:
            table = opened.read()
        metadata = table.schema.metadata
        return table.select(ANSWERS.names).cast(ANSWERS).replace_schema_metadata(metadata)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise StoreError(
            f"{file} holds no responses ({error}); take it away to ask for them again"
        ) from error


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows whose values per token stay where they are: as Python's numbers they take far more memory."""
    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    columns = {name: table.column(name) for name in lists}
    for place, row in enumerate(table.drop_columns(lists).to_pylist()):
        for name, column in columns.items():
            values = column[place].values
            row[name] = None if values is None else values.to_numpy()
        yield row


def _write(path: Path, table: pa.Table) -> None:
    with whole(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")
