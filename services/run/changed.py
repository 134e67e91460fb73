"""What of a run's recipe another value was given on the way.

runs/NAME/changes.jsonl    the settings, their old and new values, and after how many steps
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rlad_core.config.resume import Change
from services.report.record_lines import read_lines, rewrite
from services.run.errors import refused_if_broken

CHANGES = "changes.jsonl"


def note(run_dir: Path, step: int, found: Sequence[Change], **more: str) -> None:
    """Note what another value was given, and after how many steps; once, where a kill left the recipe as it
    was.

    Raises:
        RefusedError: what was noted before is broken.
    """
    row = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": step,
        **more,
        "changes": [{"path": each.path, "old": each.old, "new": each.new} for each in found],
    }
    with refused_if_broken():
        before = read_lines(run_dir / CHANGES).rows
    if before and {**before[-1], "at": row["at"]} == row:
        return
    rewrite(run_dir / CHANGES, [*before, row])


def listed(found: Sequence[Change]) -> str:
    """Changes for people, a line each."""
    return "\n".join(f"  - {change}" for change in found)
