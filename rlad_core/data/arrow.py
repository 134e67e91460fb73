"""Rows of Parquet and Arrow files, and of folders as the library `datasets` saves them (`save_to_disk`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from rlad_core.data.endings import ending
from rlad_core.data.faults import Choose, DataError, Fault, Found, Row, check_different
from rlad_core.data.text import BROKEN, decompressed

_BATCH = 1024


def parquet_rows(path: Path, choose: Choose | None = None) -> Iterator[Found]:
    """Rows of a Parquet file.

    Raises:
        DataError: it is none, or a broken one.
    """
    with _named(path, "Parquet"), decompressed(path) as binary, pq.ParquetFile(_seekable(binary)) as file:
        columns = _chosen(path, choose, file.schema_arrow.names)
        yield from _rows(path, file.iter_batches(batch_size=_BATCH, columns=list(columns)))


def arrow_rows(path: Path, choose: Choose | None = None) -> Iterator[Found]:
    """Rows of an Arrow file, in the file format (Feather) or the stream format.

    Raises:
        DataError: it is none, or a broken one.
    """
    with _named(path, "Arrow"), _arrow(path) as batches:
        columns = list(_chosen(path, choose, batches.schema.names))
        yield from _rows(path, (batch.select(columns) for batch in _each(batches)))


def batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of a Parquet or Arrow file, with their own types.

    Raises:
        DataError: it is none, or a broken one.
    """
    if ending(path) == ".parquet":
        with _named(path, "Parquet"), decompressed(path) as binary, pq.ParquetFile(_seekable(binary)) as file:
            yield from file.iter_batches(batch_size=_BATCH)
        return
    with _named(path, "Arrow"), _arrow(path) as stream:
        for batch in _each(stream):
            yield from (batch.slice(first, _BATCH) for first in range(0, len(batch), _BATCH))


def arrow_names(path: Path) -> list[str]:
    """The columns of a Parquet or Arrow file.

    Raises:
        DataError: it is none.
    """
    if ending(path) == ".parquet":
        with _named(path, "Parquet"), decompressed(path) as binary:
            return list(pq.read_schema(_seekable(binary)).names)
    with _named(path, "Arrow"), _arrow(path) as batches:
        return list(batches.schema.names)


def shards(folder: Path) -> list[Path]:
    """The Arrow files of a folder of the library `datasets`, in order.

    Raises:
        DataError: it is none, or one with several splits.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in folder.glob("*/state.json")) or ["train"]
        raise DataError(f"{folder} holds the splits {', '.join(splits)}. Name one: {folder / splits[0]}")
    state = folder / "state.json"
    if not state.is_file():
        raise DataError(
            f"{folder} is a folder, and no dataset that was saved to it (it has no state.json). Name a file, "
            "or several with a pattern such as *.parquet"
        )
    try:
        told: Any = json.loads(state.read_text(encoding="utf-8"))
        files = [folder / file["filename"] for file in told["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{state} does not say which files hold the data: {error!r}") from error
    if told.get("_indices_data_files"):
        raise DataError(f"{folder} is a selection of rows; save it flat: dataset.flatten_indices()")
    if missing := [file.name for file in files if not file.is_file()]:
        raise DataError(f"{folder} lacks {', '.join(missing)}, which its state.json names")
    return files


@contextmanager
def _arrow(path: Path) -> Iterator[Any]:
    with decompressed(path) as binary:
        source = _seekable(binary)
        try:
            yield pa.ipc.open_file(source)
        except pa.ArrowInvalid as error:
            if "file" not in str(error).lower():
                raise
            source.seek(0)
            yield pa.ipc.open_stream(source)


def _each(batches: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(batches, pa.RecordBatchFileReader):
        yield from (batches.get_batch(number) for number in range(batches.num_record_batches))
    else:
        yield from batches


def _seekable(binary: Any) -> Any:
    """Columns lie all over a file; one that was compressed as a whole is read as a whole."""
    try:
        plain = binary.name and binary.seekable() and hasattr(binary, "raw")
    except (AttributeError, OSError):
        plain = False
    return binary if plain else pa.BufferReader(binary.read())


def _rows(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[Found]:
    number = 0
    for batch in batches:
        for first in range(0, len(batch), _BATCH):
            part = batch.slice(first, _BATCH)
            try:
                found: Sequence[Any] = part.to_pylist()
            except (UnicodeDecodeError, ValueError, OverflowError):
                found = [_alone(part, place) for place in range(len(part))]
            for values in found:
                number += 1
                where = f"{path}, row {number}"
                yield Row(where, values) if isinstance(values, dict) else Fault(where, values)


def _alone(batch: pa.RecordBatch, place: int) -> dict[str, Any] | str:
    """One row, or why it is none: a value that Python cannot hold costs no other row."""
    try:
        [values] = batch.slice(place, 1).to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError) as error:
        return f"cannot be read: {error}"
    told: dict[str, Any] = values
    return told


def _chosen(path: Path, choose: Choose | None, names: Sequence[str]) -> Sequence[str]:
    try:
        wanted = names if choose is None else choose(names)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    check_different(str(path), [name for name in names if name in wanted])
    return wanted


@contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, *BROKEN) as error:
        raise DataError(f"{path} is no {what} file, or a broken one: {error}") from error
