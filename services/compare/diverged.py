"""Runs that ended because their numbers were not finite: a result, told and packed as one, and not tried
again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from services.compare.members import Member
from services.compare.moved import home_of
from services.compare.packing import pack_run


def in_words(steps: int) -> str:
    """That a run diverged, after so many steps."""
    return f"diverged after {steps} {'step' if steps == 1 else 'steps'}"


def told(members: Iterable[Member]) -> dict[str, str]:
    """Name of each run that diverged -> that it did, in words."""
    return {
        member.name: in_words(steps) for member in members if (steps := member.diverged_after()) is not None
    }


def pack_diverged(members: Iterable[Member], to: Path) -> list[str]:
    """Write what the report needs of the runs that diverged, see `pack`; the names of those."""
    done = []
    for member in members:
        record, folder = member.record(), to / member.where.name / member.name
        if record is None or member.diverged_after() is None:
            continue
        if pack_run(record, home_of(member.recipe), folder):
            done.append(member.name)
    return done
