"""A run as another process sees it: what its record gains while it works, and whether anybody works on it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.report.records import RunRecord, read_run
from services.report.stage_ends import stage_end_said
from services.run import lease, replayed

if TYPE_CHECKING:
    from services.report.journal import News

_LOOK_S = 1.0


class Following:
    """Follows a run's record.

    Args:
        folder: the run's.
        sleep: waits between two looks.
    """

    def __init__(self, folder: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self._folder, self._sleep = folder, sleep
        self._seen: dict[tuple[Any, ...], str] = {}
        self._beats: tuple[tuple[str, int] | None, float] = (None, time.monotonic())

    def news(self) -> Iterator[list[News]]:
        """What is new, look by look, until the run is over or nobody works on it any more.

        What a resumed run repeats comes again. The last look is made after the end, so nothing is missed.

        Raises:
            ReportError: the folder is no run's.
        """
        read: tuple[object, ...] | None = None
        while True:
            working, written = self._somebody_works(), self._written()
            if written != read:  # else it would be read again every second for nothing
                record, read = read_run(self._folder), written
            yield self._new(record)
            if is_over(record) or not working:
                return
            self._sleep(_LOOK_S)

    def _written(self) -> tuple[object, ...]:
        """Changes with each line of the record."""
        stats = [file.stat() for file in sorted(self._folder.glob("*.jsonl"))]
        return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)

    def _new(self, record: RunRecord) -> list[News]:
        rows: list[tuple[tuple[int, int], tuple[Any, ...], News]] = []
        for row in record.evaluations:
            order = {"before": 0, "step": 2, "after": 3}.get(row["when"], 2)
            identity = ("evaluation", row["when"], row["step"], row["subset"])
            rows.append(((row["step"], order), identity, ("evaluation", row)))
        for row in record.steps:
            # Of a row that somebody else wrote no more than its step may be known.
            row = {"version": row["step"] + 1, "stage": "", "seconds": {}, **row}
            rows.append(((row["version"], 1), ("step", row["step"]), ("step", row)))
        for row in record.stage_ends:  # decided when the step and its evaluation are recorded
            said = stage_end_said(row)
            rows.append(((row["step"] + 1, 3), ("stage end", row["step"]), ("note", said)))
        found: list[News] = []
        for _, identity, news in sorted(rows, key=lambda each: each[0]):
            content = json.dumps(news[1], sort_keys=True)
            if self._seen.get(identity) != content:
                self._seen[identity] = content
                found.append(news)
        return found

    def _somebody_works(self) -> bool:
        """Somebody on this machine by its process, on another one by a count that goes on."""
        now = lease.at_work(self._folder)
        before, since = self._beats
        if now != before:
            self._beats = (now, time.monotonic())
            return now is not None
        return now is not None and time.monotonic() - since < lease.LAPSE_S


def is_over(record: RunRecord) -> bool:
    """Whether every step is recorded, and the evaluation behind the last, which `rlad learn` has none of."""
    return (
        record.recipe is not None
        and len(record.steps) >= record.recipe.total_steps
        and (
            any(row["when"] == "after" for row in record.evaluations)
            or (record.folder / replayed.FILE).is_file()
        )
    )
