"""Finished runs of one comparison in another one that asks for the same: no run is carried out twice.

`alpha` asks for TRRD with 0.5 and for GRPO, which are runs of `kk_tiny`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from services.compare.kept_runs import is_run_of
from services.compare.members import RUNS, TUNING, Member
from services.compare.moved import home_of
from services.compare.packing import pack_run
from services.compare.verdicts import are_kept
from services.report.records import ReportError, RunRecord, read_run
from services.run.divergence import has_diverged
from services.run.following import is_over


def finished_runs(folder: Path) -> list[RunRecord]:
    """Those of a comparison, packed or not, and those that diverged: they would again.

    Raises:
        ReportError: `folder` has none.
    """
    recipes = [file for where in (RUNS, TUNING) for file in sorted(folder.glob(f"{where}/*/recipe.yaml"))]
    found = list[RunRecord]()
    for place in (file.parent for file in recipes):
        judged, diverged = are_kept(place), has_diverged(place)
        if not judged and not diverged:
            continue
        run = read_run(place)
        is_wanted = judged if is_over(run) else diverged
        if is_wanted:
            found.append(run)
    if not found:
        raise ReportError(
            f"{folder} has no finished run to take. Write a comparison's folder, such as comparisons/NAME"
        )
    return found


def take(members: Iterable[Member], there: Sequence[RunRecord]) -> dict[str, str]:
    """Take, packed, the runs that are what members without a run of their own would be.

    Args:
        members: of this comparison.
        there: finished runs of another one.

    Returns:
        Name of the member -> of the run there that it has now.

    Raises:
        ConfigError: a member's recipe is wrong.
        SchemaError: a file of a run there is broken; names it.
        OSError: a run cannot be written.
    """
    taken = {}
    for member in members:
        # One that is over and has no verdicts is in no report: it is missing too.
        if member.is_begun() and (member.is_finished() or not member.is_over()):
            continue
        for record in there:
            if is_run_of(member, record) and pack_run(record, home_of(member.recipe), member.folder):
                taken[member.name] = record.folder.name
                break
    return taken
