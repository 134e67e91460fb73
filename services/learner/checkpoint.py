"""Where checkpoints lie and which of them are whole, for those who look for one without the learner.

A checkpoint is a folder ``checkpoint_000010``, after ten steps, in the run's folder or at any address of
fsspec. Its state file is written last, so that a folder without one is what a kill left of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

STATE_FILE = "rlad-state.json"
"""In a checkpoint: the steps done, the frontier of the prompts, and more that is no tensor."""
FORKED = "forked"
"""In a run's folder: the checkpoint of another run that this one goes on from, until it has its own."""
_PREFIX = "checkpoint_"


@dataclass(frozen=True)
class Found:
    """A whole checkpoint.

    Attributes:
        address: of its folder.
        state: what its state file holds; ``step`` at least.
    """

    address: str
    state: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Steps done before it."""
        return int(self.state["step"])

    @property
    def score(self) -> float | None:
        """Accuracy on the held-out prompts; None: it was not measured then."""
        return self.state.get("score")


def address_of(run_dir: str, checkpoints: str | None, name: str) -> str:
    """Where a run's checkpoints go.

    Args:
        run_dir: the run's folder.
        checkpoints: ``output.checkpoints``.
        name: of the run.
    """
    return run_dir if checkpoints is None else f"{checkpoints.rstrip('/')}/{name}"


def forked(run_dir: Path) -> Found | None:
    """The other run's checkpoint that a fork goes on from; None: it is no fork."""
    file = run_dir / FORKED / STATE_FILE
    return Found(str(file.parent), json.loads(file.read_text())) if file.is_file() else None


def folder_name(steps: int) -> str:
    """Of the checkpoint after so many steps."""
    return f"{_PREFIX}{steps:06d}"


def whole_ones(address: str) -> dict[int, Found]:
    """Every whole checkpoint by the steps done before it, in rising order."""
    files, root = fsspec.core.url_to_fs(address)
    found: dict[int, Found] = {}
    for path in sorted(files.glob(f"{root}/{_PREFIX}*/{STATE_FILE}")):
        with suppress(OSError, ValueError, KeyError, TypeError):  # a kill may have cut it off
            one = Found(files.unstrip_protocol(path.rpartition("/")[0]), json.loads(files.cat_file(path)))
            found[one.step] = one
    return dict(sorted(found.items()))


def remove_unfinished(address: str) -> None:
    """Take away what a kill left of checkpoints."""
    files, root = fsspec.core.url_to_fs(address)
    whole = {one.address for one in whole_ones(address).values()}
    for path in files.glob(f"{root}/{_PREFIX}*"):
        if files.isdir(path) and files.unstrip_protocol(path) not in whole:
            files.rm(path, recursive=True)


def kept(found: Mapping[int, Found], count: int, best: int) -> set[int]:
    """Which checkpoints stay: the last ones, and those with the best scores, of equal ones the later.

    Args:
        count: how many of the last.
        best: how many of the best.
    """
    last = sorted(found)[-count:]
    scored = [step for step, one in found.items() if one.score is not None]
    by_score = sorted(scored, key=lambda step: (found[step].score, step), reverse=True)
    return {*last, *by_score[:best]}
