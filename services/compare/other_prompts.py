"""Runs that were trained on other prompts than the rest, though their recipes name the same.

Which prompts a run leaves out depends on what its stages need: only methods that ask a teacher who reads a
prefix do without a prompt that is too long for it, and only those that train on worked solutions without one
that is too long with its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlad_core.prompt_checks.record import DROPPED, USED
from services.compare.equality import samples
from services.compare.members import Member


@dataclass(frozen=True)
class _Used:
    """What prompts a run uses."""

    run: str
    digest: str
    training: int
    held_out: int

    def __str__(self) -> str:
        return f"{self.training:,} to train on and {self.held_out:,} held out"


def with_other_prompts(members: Sequence[Member]) -> dict[str, str]:
    """Name of each run that has other prompts than the first, or a broken record of them -> what is so.

    Args:
        members: of the report. Those that are not begun, have no record of their prompts, or train on
            worked solutions alone, which may be of other data, are not looked at.
    """
    used: list[_Used] = []
    broken: dict[str, str] = {}
    for member in members:
        try:
            used += _used(member)
        except (OSError, ValueError, KeyError, TypeError) as error:
            file = member.folder / USED
            broken[member.name] = (
                f"{file} is broken: {error!r}. Remove {member.folder} to have it carried out again"
            )
    return broken | {
        theirs.run: f"it has other prompts than {used[0].run}: {theirs}, there {used[0]}. {DROPPED} in the "
        "folders of both says which are left out and why. Give all variants a recipe that leaves out the "
        "same, with higher limits of lengths, say"
        for theirs in used
        if theirs.digest != used[0].digest
    }


def _used(member: Member) -> Iterator[_Used]:
    record, file = member.record(), member.folder / USED
    if record is not None and record.recipe is not None and samples(record.recipe) and file.is_file():
        told = json.loads(file.read_text(encoding="utf-8"))
        yield _Used(member.name, told["digest"], told["training"], told["held_out"])
