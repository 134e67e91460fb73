"""The rows of a path, by the endings of its files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rlad_core.data import documents
from rlad_core.data.endings import ENDINGS, ending
from rlad_core.data.faults import Choose, DataError, Found, Row
from rlad_core.data.paths import files_of
from rlad_core.data.text import Encoding

if TYPE_CHECKING:
    import pyarrow as pa

_TABLES = (".parquet", ".arrow", ".feather")
_SHEETS = (".csv", ".tsv")
_FIRST = 20


def rows(
    path: str,
    *,
    encoding: str | None = None,
    setting: str = Encoding.setting,
    choose: Choose | None = None,
    verbatim: bool = False,
) -> Iterator[Found]:
    """The rows of all files, in their order.

    Args:
        path: a file, a pattern, or a folder of the library `datasets`.
        encoding: of texts; None: UTF-8, or what a file's first bytes say.
        setting: what a person writes before an encoding's name, see `Encoding`.
        choose: which columns are wanted, where a file has columns.
        verbatim: a sheet's cells are the texts that they are, see `documents.csv_rows`.

    Raises:
        DataError: a file cannot be read, or lacks what `choose` wants.
    """
    for file in files_of(path):
        yield from _rows(file, Encoding(encoding, setting), choose, verbatim)


def column_names(path: str, encoding: str | None = None, setting: str = Encoding.setting) -> list[str]:
    """The columns of a path's first file; where rows have keys instead, those of its first rows.

    Args:
        encoding, setting: as of `rows`.

    Raises:
        DataError: the file cannot be read.
    """
    file: Path = files_of(path)[0]
    if ending(file) in _SHEETS:
        return documents.csv_names(file, Encoding(encoding, setting))
    if ending(file) in _TABLES:
        from rlad_core.data import arrow

        return arrow.arrow_names(file)
    found = islice(rows(str(file), encoding=encoding, setting=setting), _FIRST)
    return list(dict.fromkeys(name for row in found if isinstance(row, Row) for name in row.values))


def is_table(path: str) -> bool:
    """Whether all files of a path have columns of their own types: Parquet and Arrow.

    Raises:
        DataError: there are no such files.
    """
    return all(ending(file) in _TABLES for file in files_of(path))


def table_batches(path: str) -> Iterator[pa.RecordBatch]:
    """The record batches of all files of `is_table`, in the order of `rows`, with their own types.

    Raises:
        DataError: a file cannot be read.
    """
    from rlad_core.data import arrow

    for file in files_of(path):
        yield from arrow.batches(file)


def _rows(file: Path, encoding: Encoding, choose: Choose | None, verbatim: bool) -> Iterator[Found]:
    if not (kind := ending(file)):
        raise DataError(f"{file} ends in none of {', '.join(ENDINGS)}")
    if kind in _TABLES:
        from rlad_core.data import arrow  # with it pyarrow, which `rlad plan` does without

        return (arrow.parquet_rows if kind == ".parquet" else arrow.arrow_rows)(file, choose)
    if kind in _SHEETS:
        return documents.csv_rows(file, encoding, choose, verbatim=verbatim)
    return documents.json_rows(file, encoding)
