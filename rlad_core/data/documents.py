"""Rows of JSON and CSV files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from rlad_core.data.endings import ending
from rlad_core.data.faults import Choose, DataError, Fault, Found, Row, check_different
from rlad_core.data.text import BROKEN, Encoding, decoded, fault_of, said

_HOLDS_ROWS = frozenset(
    ("data", "rows", "examples", "instances", "items", "records", "questions", "problems", "train", "test")
)
"""Keys that an array of rows stands below where there is more beside it."""


def json_rows(path: Path, encoding: Encoding) -> Iterator[Found]:
    """One object a line, or all in one array; what the file begins with says which, not its ending.

    Raises:
        DataError: the file cannot be read, or is one document that is no JSON.
    """
    with decoded(path, encoding) as text:
        try:
            first = _first_line(text)
        except BROKEN as error:
            raise DataError(f"{path}, line 1: {said(error, encoding)}") from error
        start = first.lstrip()
        document = start.startswith("[") or (
            start.startswith("{") and (_fails(first) or (_wraps(first) and _is_last(text)))
        )
    if document:
        yield from _document(path, encoding)
    else:
        yield from _lines(path, encoding)


def csv_rows(
    path: Path, encoding: Encoding, choose: Choose | None = None, *, verbatim: bool = False
) -> Iterator[Found]:
    """One row below a line with the columns' names; cells that are empty or NaN are None.

    Args:
        verbatim: cells are the texts that they are, blanks behind a comma included; none is None.

    Raises:
        DataError: the file cannot be read, has no names, or a quotation mark has no end.
    """
    csv.field_size_limit(2**31 - 1)
    with decoded(path, encoding, newline="") as text:
        line = 0
        with _no_csv(lambda: f"{path}, line {line + 1}", encoding):
            names, mark, head = _head(path, text)
            if fault := fault_of("".join(names), encoding):
                raise DataError(f"{path}, line 1: {fault}")
            _check_names(path, names)
            if choose is not None:
                _chosen(path, choose, names)
            line = head
            cells = csv.reader(text, delimiter=mark, strict=True, skipinitialspace=not verbatim)
            for row in cells:
                where, line = f"{path}, line {line + 1}", head + cells.line_num
                if not row:
                    continue
                if fault := fault_of("".join(row), encoding):
                    yield Fault(where, fault)
                elif len(row) != len(names):
                    yield Fault(where, f"has {len(row)} cells, and the file has {len(names)} columns")
                else:
                    yield Row(where, dict(zip(names, row if verbatim else map(_cell, row), strict=True)))


def csv_names(path: Path, encoding: Encoding) -> list[str]:
    """The names of a CSV file's columns.

    Raises:
        DataError: the file cannot be read.
    """
    with decoded(path, encoding, newline="") as text, _no_csv(lambda: f"{path}, line 1", encoding):
        return _head(path, text)[0]


@contextmanager
def _no_csv(where: Callable[[], str], encoding: Encoding) -> Iterator[None]:
    """For what reads a file as CSV: where that fails, `where` is asked for the place."""
    try:
        yield
    except DataError:
        raise
    except csv.Error as error:
        raise DataError(f"{where()}: is no CSV: {error}") from error
    except BROKEN as error:
        raise DataError(f"{where()}: {said(error, encoding)}") from error


def _lines(path: Path, encoding: Encoding) -> Iterator[Found]:
    with decoded(path, encoding) as text:
        number = 0
        try:
            for number, line in enumerate(text, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield Fault(where, fault) if (fault := fault_of(line, encoding)) else _object(where, line)
        except BROKEN as error:
            raise DataError(f"{path}, line {number + 1}: {said(error, encoding)}") from error


def _document(path: Path, encoding: Encoding) -> Iterator[Found]:
    with decoded(path, encoding) as stream:
        try:
            text = stream.read()
            document = json.loads(text)
        except BROKEN as error:
            raise DataError(f"{path}: {said(error, encoding)}") from error
        except (RecursionError, ValueError) as error:
            if text.lstrip().startswith("{"):  # perhaps lines, of which the first is broken
                yield from _lines(path, encoding)
                return
            raise DataError(f"{path} is no JSON: {error}") from error
    odd = fault_of(text) is not None
    for number, values in enumerate(_rows_in(document), start=1):
        where = f"{path}, row {number}"
        if not isinstance(values, dict):
            yield Fault(where, f"is no JSON object: {str(values)[:60]!r}")
        elif odd and (fault := fault_of(json.dumps(values, ensure_ascii=False), encoding)):
            yield Fault(where, fault)
        else:
            yield Row(where, values)


def _rows_in(document: Any) -> list[Any]:
    """The rows of an array, also of one below a key, with texts and numbers at most beside it.

    ``{"version": "1.0", "data": [...]}`` has rows; the messages of a chat are none.
    """
    if isinstance(document, list):
        return document
    inside = [value for value in document.values() if isinstance(value, list | dict)]
    if len(inside) != 1 or not isinstance(inside[0], list) or not inside[0]:
        return [document]
    beside = len(document) > 1 and next(key for key, value in document.items() if value is inside[0])
    rows = inside[0]
    if beside and beside.lower() not in _HOLDS_ROWS:
        return [document]
    return rows if all(isinstance(row, dict) and "role" not in row for row in rows) else [document]


def _is_last(text: Iterator[str]) -> bool:
    try:
        return not _first_line(text)
    except BROKEN:  # the lines are read once more, and this is said with its line
        return False


def _wraps(line: str) -> bool:
    """Whether a file's line, if it is the only one, is a document with rows and no row."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and _rows_in(document) != [document]


def _object(where: str, text: str) -> Found:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        return Fault(where, f"is no JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:  # of a number with too many digits, or of too many brackets
        return Fault(where, f"is no JSON: {error}")
    if not isinstance(values, dict):
        return Fault(where, f"is no JSON object: {text.strip()[:60]!r}")
    return Row(where, values)


def _first_line(text: Iterator[str]) -> str:
    return next((line for line in text if line.strip()), "")


def _fails(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        # A document over several lines breaks off at the end of the first; a broken row, before it.
        return error.pos >= len(line.rstrip())
    except (ValueError, RecursionError):
        return False
    return False


def _head(path: Path, text: TextIO) -> tuple[list[str], str, int]:
    """The columns' names, what stands between cells, and how many lines the names take."""
    first = text.readline()
    mark = _delimiter(path, first)
    # People put blanks behind commas, and mean none of them.
    cells = csv.reader(chain([first], text), delimiter=mark, strict=True, skipinitialspace=True)
    return [name.strip() for name in next(cells, [])], mark, cells.line_num


def _delimiter(path: Path, head: str) -> str:
    if ending(path) == ".tsv":
        return "\t"
    plain = re.sub(r'"[^"]*("|$)', "", head)
    return ";" if ";" in plain and "," not in plain else ","


def _check_names(path: Path, names: list[str]) -> None:
    named = [name for name in names if name]  # tables out of Excel may end in columns without one
    if not named:
        raise DataError(f"{path}, line 1: has no names of columns")
    check_different(f"{path}, line 1", named)


def _chosen(path: Path, choose: Choose, names: list[str]) -> None:
    try:
        choose(names)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _cell(text: str) -> str | None:
    return None if text.strip().lower() in ("", "nan") else text
