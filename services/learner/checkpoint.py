"""Where checkpoints lie and which of them are whole, for those who look for one without the learner.

A checkpoint is a folder ``checkpoint_000010``, after ten steps, in the run's folder or at any address of
fsspec; a folder of any other name beside it, such as a copy of one, is somebody's own. Its state file is
written last, so that a folder without one, or with a part of one, is what a kill left of it. Storage that
cannot be read says nothing of what is there, and that is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

STATE_FILE = "rlad-state.json"
"""In a checkpoint: the steps done, the frontier of the prompts, and more that is no tensor."""
FORKED = "forked"
"""In a run's folder: the checkpoint of another run that this one goes on from, until it has its own."""
_PREFIX = "checkpoint_"
_NAME = re.compile(rf"{_PREFIX}\d+")


class CheckpointError(Exception):
    """Whether checkpoints are there, and whole, cannot be known; says where and why."""


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


def storage_of(address: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of an address of fsspec, and the path in it.

    A path of this machine is taken as it is: to fsspec a "::" in it would begin another address.

    Raises:
        CheckpointError: nothing that is installed reads such an address.
    """
    if address.startswith(("/", "file://")) or "://" not in address:
        return LocalFileSystem(), LocalFileSystem._strip_protocol(address)
    try:
        files, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise CheckpointError(f"no checkpoints can lie at {address}: {error}") from error
    return files, str(path)


def address_of(run_dir: str, checkpoints: str | None, name: str) -> str:
    """Where a run's checkpoints go.

    Args:
        run_dir: the run's folder.
        checkpoints: ``output.checkpoints``.
        name: of the run.
    """
    return run_dir if checkpoints is None else f"{checkpoints.rstrip('/')}/{name}"


def forked(run_dir: Path) -> Found | None:
    """The other run's checkpoint that a fork goes on from; None: it is no fork.

    Raises:
        CheckpointError: it cannot be read, or is not whole.
    """
    folder = run_dir / FORKED
    found = found_at(str(folder))
    if found is None and folder.exists():
        raise CheckpointError(
            f"{folder} holds no whole checkpoint for the run to go on from. Delete {run_dir}, and fork again"
        )
    return found


def found_at(address: str) -> Found | None:
    """The checkpoint in this folder; None: there is none, or it is not whole.

    Raises:
        CheckpointError: it cannot be read.
    """
    files, folder = storage_of(address)
    return _found(files, folder)


def folder_name(steps: int) -> str:
    """Of the checkpoint after so many steps."""
    return f"{_PREFIX}{steps:06d}"


def whole_ones(address: str) -> dict[int, Found]:
    """Every whole checkpoint by the steps done before it, in rising order.

    Raises:
        CheckpointError: they cannot be read.
    """
    found = [one for one in _looked_at(address).values() if one is not None]
    return {one.step: one for one in sorted(found, key=lambda one: one.step)}


def remove_unfinished(address: str) -> None:
    """Take away what a kill left of checkpoints.

    Raises:
        CheckpointError: they cannot be read; nothing was taken away.
    """
    files, _ = storage_of(address)
    for folder, one in _looked_at(address).items():
        if one is None:
            files.rm(folder, recursive=True)


def _looked_at(address: str) -> dict[str, Found | None]:
    """Folders of checkpoints in their order, with what each holds; None: it is not whole."""
    files, root = storage_of(address)
    # What another thread or process has written since; some storage is listed from memory.
    files.invalidate_cache(root)
    try:
        # Not `glob`, for which a folder that cannot be listed is an empty one.
        entries = files.ls(root, detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:
        raise _unreadable(f"the checkpoints in {address}", error) from error
    folders = sorted(entry["name"].rstrip("/") for entry in entries if entry["type"] != "file")
    ours = [folder for folder in folders if _NAME.fullmatch(folder.rpartition("/")[2])]
    return {folder: _found(files, folder) for folder in ours}


def _found(files: fsspec.AbstractFileSystem, folder: str) -> Found | None:
    address = files.unstrip_protocol(folder)
    try:
        text = files.cat_file(f"{folder}/{STATE_FILE}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # whichever the storage's own are
        raise _unreadable(f"the checkpoint {address}", error) from error
    try:
        state = json.loads(text)
    except ValueError:  # cut off
        return None
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise CheckpointError(
            f"{address}/{STATE_FILE} is whole and tells of no step, so it is no checkpoint's. Take its "
            "folder away"
        )
    return Found(address, state)


def _unreadable(what: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{what} cannot be read ({type(error).__name__}: {error}). What is whole there is not known, so "
        "nothing was taken away and nothing begun. Start again when it can be read"
    )


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
