"""What a run's ledger answers: was every prompt of an epoch trained exactly once, what was dropped, which
tokens had which age.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.report.ledger import LEDGER


class LedgerError(Exception):
    """There is no ledger to ask, or it cannot be read."""


@dataclass(frozen=True)
class Epoch:
    """One pass over a run's prompts.

    prompts: of which it consists. trained, dropped: how many of them were, once or more. twice: ids of those
    that were trained on more than once.
    """

    number: int
    prompts: int
    trained: int
    dropped: int
    twice: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every prompt of it was trained exactly once."""
        return self.trained == self.prompts and not self.twice


@dataclass(frozen=True)
class Dropped:
    """A visit that was not trained on."""

    step: int
    group_id: str
    why: str


@dataclass(frozen=True)
class Answers:
    """What a ledger says.

    Attributes:
        steps: that have visits.
        checkpoint: steps before the last whole checkpoint; None: there is none.
        epochs: in their order.
        dropped: in the order of their steps.
        ages: tokens of trained visits by how many versions the policy that sampled them lags behind the one
            trained, without those that were too old to count.
        stale_masked: how many were.
        doubled: positions that are there more than once.
        lost: positions before the checkpoint's frontier of which nothing is there.
        starts: how often the run was started or resumed.
    """

    steps: int
    checkpoint: int | None
    epochs: tuple[Epoch, ...]
    dropped: tuple[Dropped, ...]
    ages: Mapping[int, int]
    stale_masked: int
    doubled: tuple[int, ...]
    lost: tuple[int, ...]
    starts: int

    @property
    def is_exact(self) -> bool:
        """No visit is lost or doubled: each was trained on once, or dropped for the reason that is there."""
        return not (self.doubled or self.lost or any(epoch.twice for epoch in self.epochs))

    @property
    def is_strictly_exact(self) -> bool:
        """Besides every prompt of every epoch that was begun was trained on."""
        return self.is_exact and all(epoch.is_whole for epoch in self.epochs)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "exact": self.is_exact,
            **asdict(self),
            "ages": {str(age): tokens for age, tokens in sorted(self.ages.items())},
        }


def ask(run_dir: Path, checkpoint: Mapping[str, Any] | None) -> Answers:
    """Read a run's ledger; the run may be going on.

    Args:
        checkpoint: the state of the last whole one (`services.learner.checkpoint`); None: there is none.

    Raises:
        LedgerError: says what is missing.
    """
    file = run_dir / LEDGER
    if not file.is_file():
        raise LedgerError(f"{run_dir} has no {LEDGER}: it is no run's folder, or of a run without one")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as ledger:
            ledger.row_factory = sqlite3.Row
            rows = ledger.execute("SELECT * FROM visits ORDER BY step, position").fetchall()
            [starts] = ledger.execute("SELECT count(*) FROM starts").fetchone()
    except sqlite3.Error as error:
        raise LedgerError(f"{file} cannot be read: {error}") from error
    counts = Counter(row["position"] for row in rows)
    trained = [row for row in rows if row["outcome"] == "trained"]
    return Answers(
        steps=len({row["step"] for row in rows}),
        checkpoint=None if checkpoint is None else int(checkpoint["step"]),
        epochs=_epochs(rows),
        dropped=tuple(
            Dropped(row["step"], row["group_id"], row["why"]) for row in rows if row["outcome"] == "dropped"
        ),
        ages=_ages(trained),
        stale_masked=sum(map(_stale_masked, trained)),
        doubled=tuple(sorted(position for position, count in counts.items() if count > 1)),
        lost=_lost(rows, checkpoint),
        starts=starts,
    )


def _epochs(rows: Sequence[sqlite3.Row]) -> tuple[Epoch, ...]:
    found = []
    for number in sorted({row["epoch"] for row in rows}):
        of_it = [row for row in rows if row["epoch"] == number]
        outcomes = {
            outcome: Counter(row["prompt_id"] for row in of_it if row["outcome"] == outcome)
            for outcome in ("trained", "dropped")
        }
        found.append(
            Epoch(
                number=number,
                prompts=of_it[-1]["epoch_prompts"],
                trained=len(outcomes["trained"]),
                dropped=len(outcomes["dropped"]),
                twice=tuple(sorted(name for name, times in outcomes["trained"].items() if times > 1)),
            )
        )
    return tuple(found)


def _ages(rows: Sequence[sqlite3.Row]) -> dict[int, int]:
    ages: Counter[int] = Counter()
    for row in rows:
        too_old = _stale_masked(row)
        for version, tokens in sorted(
            (int(name), tokens) for name, tokens in json.loads(row["sampled"]).items()
        ):
            counted = max(0, tokens - too_old)
            too_old -= tokens - counted
            if counted:
                ages[row["step"] - version] += counted
    return dict(ages)


def _stale_masked(row: sqlite3.Row) -> int:
    """Tokens of a visit; a ledger of before says nothing of them."""
    return int(row["stale_masked"]) if "stale_masked" in row.keys() else 0  # noqa: SIM118 - values otherwise


def _lost(rows: Sequence[sqlite3.Row], checkpoint: Mapping[str, Any] | None) -> tuple[int, ...]:
    """Of what comes after the checkpoint nothing is known: it may be in work, or will be done again."""
    frontier = (checkpoint or {}).get("frontier")
    if checkpoint is None or frontier is None:
        return ()
    there = {row["position"] for row in rows if row["step"] < checkpoint["step"]}
    return tuple(sorted(set(range(frontier["next_position"])) - there - set(frontier["alive"])))
