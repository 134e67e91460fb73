"""A run's ledger: each visit's life as one row, in ``runs/NAME/ledger.sqlite``, written by the journal alone.

A step's visits are one transaction, made before the checkpoint after that step begins. A run that is resumed
takes back what was written after its checkpoint. So whatever a kill leaves, the visits of the steps before a
checkpoint are those that the checkpoint knows of. Rows are never changed otherwise.

The journal file of SQLite (not its WAL) is used: it needs no shared memory, which file systems of a network
do not have, and what one copies is always whole.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # with it comes all that asks services, and who reads a ledger asks none
    from services.experience.visits import Visit

LEDGER: Final = "ledger.sqlite"
_BUSY_S: Final = 30.0
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS visits (
    step INTEGER NOT NULL,          -- in which it was trained on or dropped
    position INTEGER NOT NULL,      -- of the draw, counted from 0
    epoch INTEGER NOT NULL,
    epoch_prompts INTEGER NOT NULL,
    group_id TEXT NOT NULL,
    prompt_id TEXT NOT NULL,
    task TEXT NOT NULL,
    outcome TEXT NOT NULL,          -- trained or dropped
    why TEXT NOT NULL,              -- it was dropped
    written_by TEXT NOT NULL,       -- policy, teacher or task
    sampled TEXT NOT NULL,          -- {policy version: tokens}
    responses INTEGER NOT NULL,
    teacher TEXT,
    teacher_weights TEXT,
    reference_weights TEXT,
    rewards TEXT NOT NULL,
    correct TEXT NOT NULL,
    stale_masked INTEGER NOT NULL DEFAULT 0  -- of the sampled tokens, the oldest: too old to count
);
CREATE INDEX IF NOT EXISTS visits_by_step ON visits (step);
CREATE TABLE IF NOT EXISTS starts (
    at REAL NOT NULL,               -- seconds since 1970
    pid INTEGER NOT NULL,
    first_step INTEGER NOT NULL,
    taken_back INTEGER NOT NULL     -- visits of this and later steps, which a lost attempt had written
);
"""
_COLUMNS: Final = 18
_STALE: Final = "stale_masked"


class Ledger:
    """The one writer of a run's ledger.

    Args:
        run_dir: the run's folder.

    Raises:
        sqlite3.Error: from any method: the file is none, or cannot be written.
    """

    def __init__(self, run_dir: Path) -> None:
        # From whichever thread the journal is called in, one at a time.
        self._file = sqlite3.connect(run_dir / LEDGER, timeout=_BUSY_S, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode=DELETE")
        self._file.execute("PRAGMA synchronous=FULL")
        self._file.executescript(_TABLES)
        # That of a run which is gone on from may be older than the column.
        if _STALE not in (column[1] for column in self._file.execute("PRAGMA table_info(visits)")):
            self._file.execute(f"ALTER TABLE visits ADD COLUMN {_STALE} INTEGER NOT NULL DEFAULT 0")

    def begin(self, first_step: int) -> int:
        """The run starts or continues with this step; how many visits of a lost attempt were taken back."""
        with self._file:
            gone = self._file.execute("DELETE FROM visits WHERE step >= ?", (first_step,)).rowcount
            values = (time.time(), os.getpid(), first_step, gone)
            self._file.execute("INSERT INTO starts VALUES (?, ?, ?, ?)", values)
        return gone

    def step(self, step: int, visits: Iterable[Visit]) -> None:
        """What became of a step's visits; all of it is on the disk when this returns, or nothing."""
        with self._file:
            marks = ", ".join("?" * _COLUMNS)
            self._file.executemany(
                f"INSERT INTO visits VALUES ({marks})", [_row(step, visit) for visit in visits]
            )

    def close(self) -> None:
        """Give back the file."""
        self._file.close()


def copy(source: Path, target: Path, first_step: int) -> None:
    """Copy what a run's ledger has of the steps before this one to another folder, also while it is written;
    nothing where there is none.
    """
    if not (source / LEDGER).is_file():
        return
    with (
        closing(sqlite3.connect(source / LEDGER, timeout=_BUSY_S)) as ours,
        closing(sqlite3.connect(target / LEDGER)) as theirs,
    ):
        ours.backup(theirs)
        with theirs:
            theirs.execute("DELETE FROM visits WHERE step >= ?", (first_step,))


def _row(step: int, visit: Visit) -> tuple[object, ...]:
    return (
        step,
        visit.position,
        visit.epoch,
        visit.epoch_prompts,
        visit.group_id,
        visit.prompt_id,
        visit.task,
        visit.outcome,
        visit.why,
        visit.by,
        json.dumps({str(version): tokens for version, tokens in visit.sampled.items()}),
        visit.responses,
        visit.teacher,
        visit.teacher_weights,
        visit.reference_weights,
        json.dumps(list(visit.rewards)),
        json.dumps(list(visit.correct)),
        visit.stale_masked,
    )
