"""Which of the settings that a variant tries is taken: the one with the highest accuracy on the tuning's
problems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlad_core.evaluation import AVERAGE
from services.compare.members import Member
from services.compare.suite import Settings
from services.report.html import write_whole
from services.report.journal import EVALUATIONS
from services.report.records import ReportError

FILE = "tuning.json"


@dataclass(frozen=True)
class Try:
    """One setting that was tried, and what came of it."""

    settings: Settings
    accuracy: float


def chosen_of(
    tries: dict[str, list[tuple[Settings, Member]]],
) -> tuple[dict[str, Settings], dict[str, list[Try]]]:
    """The settings of each variant whose tries are all finished, and all that was found.

    Of equal accuracies the first counts.
    """
    chosen: dict[str, Settings] = {}
    found: dict[str, list[Try]] = {}
    for variant, theirs in tries.items():
        found[variant] = [
            Try(settings, accuracy_of(member)) for settings, member in theirs if member.is_finished()
        ]
        if len(found[variant]) == len(theirs):
            chosen[variant] = max(found[variant], key=lambda each: each.accuracy).settings
    return chosen, found


def accuracy_of(member: Member) -> float:
    """The mean over subsets of the evaluation after the last step.

    Raises:
        ReportError: nothing tells it.
    """
    record = member.record()
    after = {
        row["subset"]: float(row["accuracy"])
        for row in (record.evaluations if record else [])
        if row["when"] == "after"
    }
    if AVERAGE in after:
        return after[AVERAGE]
    if len(after) != 1:  # a single subset has no average beside it, whatever it is called
        raise ReportError(
            f"{member.folder / EVALUATIONS} tells no accuracy after the last step: it has "
            f"{', '.join(after) or 'no subset'} and no {AVERAGE}. Remove the folder to have it tried again"
        )
    return next(iter(after.values()))


def write(found: dict[str, list[Try]], folder: Path) -> None:
    """Keep what was tried, for the report and for a person, beside what is there of other variants."""
    values = dict(read(folder)) | {
        variant: [asdict(each) for each in tries] for variant, tries in found.items()
    }
    write_whole(folder / FILE, json.dumps(values, indent=1) + "\n")


def read(folder: Path) -> dict[str, Sequence[dict[str, Any]]]:
    """What `write` kept; nothing where nothing was tuned."""
    file = folder / FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
