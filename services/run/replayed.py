"""Which recorded steps a folder of `rlad learn` is trained on: noted at its begin, compared later on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from services.base.whole_files import write_whole
from services.run.errors import RefusedError

FILE = "replayed.json"
"""In the folder: name and bytes of each file, in the order in which they are gone through."""


def note(run_dir: Path, files: Sequence[Path]) -> None:
    """Write down what a new folder is trained on."""
    write_whole(run_dir / FILE, json.dumps(_told(files), indent=1) + "\n")


def check(run_dir: Path, files: Sequence[Path]) -> None:
    """Refuse to go on with other experience than the folder was begun with.

    Args:
        files: that are trained on now; none: those that a run makes itself.

    Raises:
        RefusedError: says with what to go on.
    """
    before = json.loads((run_dir / FILE).read_text()) if (run_dir / FILE).is_file() else []
    if before and not files:
        raise RefusedError(f"{run_dir} is trained on recorded steps: go on with rlad learn ... --resume")
    if files and not before:
        raise RefusedError(
            f"{run_dir} is of a run that makes its experience itself: go on with rlad run ... --resume, or "
            "choose another name with --set name=..."
        )
    if _told(files) != before:
        raise RefusedError(
            f"{run_dir} was begun with {len(before)} other recorded steps ({_names(before)}) than the "
            f"{len(files)} that are given now ({_names(_told(files))}). Resume with the same --experience"
        )


def _told(files: Sequence[Path]) -> list[list[str | int]]:
    return [[file.name, file.stat().st_size] for file in files]


def _names(told: Sequence[Sequence[str | int]]) -> str:
    names = [str(each[0]) for each in told]
    return ", ".join(names if len(names) < 4 else [names[0], "...", names[-1]])
