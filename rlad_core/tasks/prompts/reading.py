"""Rows of a data file, by the ending of its name. Whatever is wrong with one names the file and the place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PlacedRow = tuple[str, dict[str, Any]]
"""Where it stands, as ``line 3``, and its values by column."""


def rows(path: Path) -> Iterator[PlacedRow]:
    """The rows in the file's order.

    Raises:
        ValueError: not a file of one of these formats, or a broken one.
        OSError: it cannot be read.
    """
    read = _READERS.get(path.suffix)
    if read is None:
        raise ValueError(f"{path} ends in none of {', '.join(_READERS)}")
    return read(path)


def _jsonl(path: Path) -> Iterator[PlacedRow]:
    """One JSON object a line; a byte order mark and empty lines are skipped."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number} is no UTF-8: {error.reason}") from error
            if text.strip():
                yield f"line {number}", _json_object(f"{path}, line {number}", text)


def _json_object(where: str, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{where} is no JSON object: {text.strip()[:60]!r}")
    return values


def _parquet(path: Path) -> Iterator[PlacedRow]:
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=4096):
                for values in batch.to_pylist():
                    number += 1
                    yield f"row {number}", values
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no Parquet file, or a broken one: {error}") from error


_READERS: dict[str, Callable[[Path], Iterator[PlacedRow]]] = {".jsonl": _jsonl, ".parquet": _parquet}
SUFFIXES = tuple(_READERS)
