"""Files of one JSON object a line, as processes append to them: those of a run's record, and its traces.

A line is written at once, with its line break last. So a kill or a full disk leaves no more than a last line
that is cut off. Nothing relies on that one yet, and it is left out. Whatever else cannot be read is a fault,
and named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.base.whole_files import write_whole

METRICS: Final = "metrics.jsonl"
EVALUATIONS: Final = "evaluation.jsonl"
GROUPS: Final = "groups.jsonl"
STAGE_ENDS: Final = "stage_ends.jsonl"
"""A line for each stage that a rule ended: its last ``step``, its name as ``stage``, and ``why``."""


class LinesError(ValueError):
    """A line is broken, and no kill has left it so; says which, and what to do."""


@dataclass(frozen=True)
class Lines:
    """What a file holds.

    Attributes:
        by_number: the objects by the numbers of their lines, from 1.
        cut_off: number of the last line, where that is cut off; None: it is whole.
    """

    by_number: dict[int, dict[str, Any]]
    cut_off: int | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The objects, in their order."""
        return list(self.by_number.values())


def append(file: Path, *rows: dict[str, Any]) -> None:
    """Write lines, all at once. JSON knows no NaN, which is what a mean over nothing is: it becomes null."""
    lines = "".join(json.dumps(_without_nan(row), allow_nan=False) + "\n" for row in rows)
    with file.open("a") as opened:
        opened.write(lines)


def rewrite(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write these in the place of what was there, so that a kill cannot lose the record."""
    write_whole(file, "".join(f"{json.dumps(row)}\n" for row in rows))


def read_lines(file: Path) -> Lines:
    """All that a file holds; nothing where there is none.

    Raises:
        LinesError: a line is no JSON object, other than a last one that is cut off.
        OSError: it cannot be read.
    """
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Lines({})
    # As bytes: a line that is cut off in the middle of a character spoils no other.
    lines = content.splitlines()
    found: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines) and not content.endswith(b"\n"):
                return Lines(found, number)
            raise _broken(file, number, f"is broken ({error})") from error
        if not isinstance(row, dict):
            raise _broken(file, number, f"is {line[:40].decode(errors='replace')} and should be an object")
        found[number] = row
    return Lines(found)


def read_record(file: Path) -> Lines:
    """The same of a file of a run's record, where each line tells of a ``step``.

    Raises:
        LinesError: also where a line tells of none.
        OSError: it cannot be read.
    """
    lines = read_lines(file)
    for number, row in lines.by_number.items():
        if not isinstance(row.get("step"), int):
            raise _broken(file, number, "tells of no step")
    return lines


def _broken(file: Path, number: int, what: str) -> LinesError:
    return LinesError(f"line {number} of {file} {what}. Repair or delete the line")


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_nan(value)
        if isinstance(value, dict)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in row.items()
    }
