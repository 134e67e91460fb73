"""What reading a file gives: rows, and what is wrong with some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class DataError(ValueError):
    """A file cannot be read; the message begins with its path, and with the line where there is one."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row's values by column.

    where: file and place, such as ``/data/train.jsonl, line 3``; lines and rows are counted from 1.
    """

    where: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be used, and why; the reason completes "..., line 3: "."""

    where: str
    reason: str


Found = Row | Fault
Choose = Callable[[Sequence[str]], Sequence[str]]
"""The columns that a file has -> those that are wanted. Where there are no columns but keys, it is not asked.

It may raise ValueError: what is missing."""


def check_different(where: str, columns: Sequence[str]) -> None:
    """Refuse columns of which two have one name: nobody could say which is meant.

    Raises:
        DataError: there are such.
    """
    if len(set(columns)) < len(columns):
        raise DataError(f"{where}: two columns have the same name: {', '.join(columns)}")
