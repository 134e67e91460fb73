"""Which of the settings that a variant tries is taken: the one with the highest accuracy on the tuning's
problems. A try that diverged has none, and is below all others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from rlad_core.evaluation import AVERAGE
from services.base.whole_files import write_whole
from services.compare.members import TUNING, Member
from services.compare.suite import Settings, Suite
from services.report.record_lines import EVALUATIONS
from services.report.records import ReportError

FILE = "tuning.json"


@dataclass(frozen=True)
class Try:
    """One setting that was tried, and what came of it.

    accuracy: None where it diverged.
    diverged_after: so many steps; None: it did not.
    """

    settings: Settings
    accuracy: FiniteFloat | None
    diverged_after: int | None = None


_KEPT = TypeAdapter(dict[str, list[Try]])
"""What the file has, by variant."""


def chosen_of(
    tries: dict[str, list[tuple[Settings, Member]]],
) -> tuple[dict[str, Settings], dict[str, list[Try]]]:
    """The settings of each variant whose tries are all settled, and all that was found.

    Of equal accuracies the first counts. A variant whose tries have all diverged has no settings.
    """
    chosen: dict[str, Settings] = {}
    found: dict[str, list[Try]] = {}
    for variant, theirs in tries.items():
        found[variant] = [
            each for settings, member in theirs if (each := _tried(settings, member)) is not None
        ]
        accuracies = [(each.accuracy, each.settings) for each in found[variant] if each.accuracy is not None]
        if accuracies and len(found[variant]) == len(theirs):
            chosen[variant] = max(accuracies, key=lambda each: each[0])[1]
    return chosen, found


def _tried(settings: Settings, member: Member) -> Try | None:
    """What came of a try; None: it is not settled yet."""
    if member.is_finished():
        return Try(settings, accuracy_of(member))
    steps = member.diverged_after()
    return None if steps is None else Try(settings, None, steps)


def accuracy_of(member: Member) -> float:
    """The mean over subsets of the evaluation after the last step.

    Raises:
        ReportError: nothing tells it.
    """
    record = member.record()
    after = {
        row["subset"]: float(row["accuracy"])
        for row in (record.evaluations if record else [])
        if row["when"] == "after" and row["accuracy"] is not None
    }
    if AVERAGE in after:
        return after[AVERAGE]
    if len(after) != 1:  # a single subset has no average beside it, whatever it is called
        raise ReportError(
            f"{member.folder / EVALUATIONS} tells no accuracy after the last step: it has "
            f"{', '.join(after) or 'no subset'} and no {AVERAGE}. Remove the folder to have it tried again"
        )
    return next(iter(after.values()))


@dataclass(frozen=True)
class Tuned:
    """What a variant has tried so far.

    Attributes:
        tries: those that are settled, as ``tuning.json`` has them.
        wanted: so many tries there are when all are.
    """

    tries: Sequence[dict[str, Any]]
    wanted: int


def tuned_of(
    suite: Suite, kept: Mapping[str, Sequence[dict[str, Any]]], found: Mapping[str, Sequence[Try]]
) -> dict[str, Tuned]:
    """What is known of each variant's tries now, by the suite's order; nothing where the suite tunes none.

    Args:
        kept: what `read` has, of a phase of tries that is over.
        found: the tries that are settled now, which count where there are any.
    """
    if suite.tuning is None:  # what is left there of another suite is none of this one's
        return {}
    known = {name: kept.get(name, ()) for name in suite.variants if name in kept or name in found}
    known |= {name: [_plain(each) for each in tries] for name, tries in found.items() if tries}
    return {
        name: Tuned(tries, len(suite.variants[name].tries) if suite.variants[name].tune else len(tries))
        for name, tries in known.items()
    }


def write(found: dict[str, list[Try]], folder: Path) -> None:
    """Keep what was tried, for the report and for a person, beside what is there of other variants."""
    values = dict(read(folder)) | {
        variant: [_plain(each) for each in tries] for variant, tries in found.items()
    }
    write_whole(folder / FILE, json.dumps(values, indent=1) + "\n")


def _plain(tried: Try) -> dict[str, Any]:
    values = asdict(tried)
    if tried.diverged_after is None:
        del values["diverged_after"]
    return values


def read(folder: Path) -> dict[str, Sequence[dict[str, Any]]]:
    """What `write` kept; nothing where nothing was tuned.

    Raises:
        ReportError: it is broken, as somebody else may leave it; names it.
    """
    file = folder / FILE
    if not file.is_file():
        return {}
    try:
        kept = _KEPT.validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ReportError(
            f"{file} is broken: {where}: {first['msg']}. Repair or remove it; what is kept of the tries in "
            f"{folder / TUNING} is found without it"
        ) from error
    return {variant: [_plain(each) for each in tries] for variant, tries in kept.items()}
