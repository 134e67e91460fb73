"""What a comparison reads again and again, read once: the suite's recipe, and what its runs have written.

Every question about a run, such as whether it is finished, begins with its record. To read recipes as YAML
for each of them would take most of the time of a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rlad_core.config import RunConfig
from rlad_core.config.loading import RecipeFile, read
from services.report.record_lines import EVALUATIONS, METRICS, STAGE_ENDS
from services.report.records import ReportError, RunRecord, read_run

_RECIPE = "recipe.yaml"
_Written = tuple[tuple[int, int, int] | None, ...]
"""Of each file of a record its inode, time and size; they change with each line."""


@dataclass(frozen=True)
class Found:
    """What a run wrote so far, or why that cannot be read; of one that was not begun neither."""

    read: RunRecord | None = None
    fault: str | None = None


_records: dict[Path, tuple[_Written, Found]] = {}
"""By folder: the last that was read of each. They are as large as the report, which needs all of them."""


@dataclass(frozen=True)
class Recipe:
    """The recipe that all variants of a suite share, as it was when it was first asked for.

    Attributes:
        name: its file, or the name of one that ships.
        typed_in: folder that relative paths in what a suite changes start from; None: the current one.
    """

    name: str
    typed_in: Path | None = None

    @cached_property
    def _file(self) -> RecipeFile:
        return read(self.name)

    @cached_property
    def _checked(self) -> dict[tuple[str, ...], RunConfig]:
        return {}

    def config(self, overrides: Sequence[str]) -> RunConfig:
        """The recipe of a run that changes these fields of it, as `rlad_core.config.load` has it.

        Raises:
            ConfigError: it is wrong.
        """
        key = tuple(overrides)
        if key not in self._checked:
            self._checked[key] = self._file.config(overrides, self.typed_in)
        return self._checked[key]


def record_of(folder: Path) -> Found:
    """What a run wrote so far, read again where it has written since."""
    written = tuple(_written(folder / name) for name in (_RECIPE, METRICS, EVALUATIONS, STAGE_ENDS))
    if written[0] is None:
        _records.pop(folder, None)
        return Found()
    if folder not in _records or _records[folder][0] != written:
        _records[folder] = (written, _found(folder))
    return _records[folder][1]


def _found(folder: Path) -> Found:
    try:
        record = read_run(folder)
    except (ReportError, OSError) as error:
        return Found(fault=str(error))
    if record.recipe is None:
        return Found(fault=f"{folder / _RECIPE} cannot be read; rlad report {folder} says why")
    return Found(record)


def _written(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
