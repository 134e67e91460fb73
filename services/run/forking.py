"""A run that goes on from another one's checkpoint: its folder begins with that and the record up to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from rlad_core.config import RunConfig
from rlad_core.config.resume import changes
from services.base.whole_files import UNFINISHED
from services.learner.checkpoint import FORKED, Found, found_at, storage_of
from services.report import ledger
from services.report.answers import ANSWERS
from services.report.record_lines import EVALUATIONS, GROUPS, METRICS, STAGE_ENDS, read_record, rewrite
from services.report.taking_back import keep_before, lengthen
from services.run.changed import listed, note
from services.run.errors import RefusedError, refused_if_broken
from services.run.folder import (
    FORKING,
    RECIPE,
    Prepared,
    begin,
    checkpoints_of,
    recipe_of,
    remove,
)


def fork(config: RunConfig, run_dir: Path, source: Path, step: int | None) -> Prepared:
    """Make a new run that goes on from another one's checkpoint, with that one's record up to there.

    Args:
        config: of the new run; everything may differ but the model, and which of its weights are trained.
        source: folder of the other run.
        step: after how many steps the checkpoint was made; None: the last one.

    Raises:
        RefusedError: there is no such checkpoint, or the recipe cannot go on from it.
    """
    if not (source / RECIPE).is_file():
        raise RefusedError(f"there is no run to fork in {source}: it has no {RECIPE}")
    found = checkpoints_of(source, recipe_of(source))
    if not found or (step is not None and step not in found):
        there = f"after {', '.join(map(str, sorted(found)))} steps" if found else "none"
        raise RefusedError(f"{source} has no checkpoint to fork from; there are: {there}")
    step = max(found) if step is None else step
    different = [each for each in changes(recipe_of(source), config, step) if each.path != "name"]
    models = [each for each in different if each.path in ("policy.model", "policy.init")]
    if models:
        raise RefusedError(f"a fork goes on with the model of {source}, and the recipe has\n{listed(models)}")
    adapters = [each for each in different if each.path.startswith("learner.lora")]
    if adapters:
        raise RefusedError(
            f"a checkpoint holds the weights that are trained, and those of {source} are others than\n"
            f"{listed(adapters)}\nleads to. Begin a new run, from {source / 'export'} where it ended"
        )
    if step >= config.total_steps:
        raise RefusedError(
            f"the checkpoint of {source} comes after {step} steps, and the recipe's stages have "
            f"{config.total_steps}. Write more steps, or another checkpoint: --from-step N"
        )

    def fill() -> None:
        _take_checkpoint(source, found[step], run_dir)
        _take_record(source, step, run_dir)
        note(run_dir, step, different, forked=str(source))

    config, remarks = begin(config, run_dir, fill, forks=True)
    changed = f" with\n{listed(different)}" if different else ""
    return config, [f"goes on from {source} after {step} steps{changed}", *remarks]


def _take_checkpoint(source: Path, found: Found, run_dir: Path) -> None:
    """Whole, or not at all."""
    unfinished = run_dir / FORKING
    _fetch(found.address, unfinished)
    if found_at(str(unfinished)) is None:
        raise RefusedError(
            f"the checkpoint of {source} after {found.step} steps was taken away while it was copied: a run "
            "at work takes away those that it does not keep. Fork from a later one"
        )
    unfinished.rename(run_dir / FORKED)


def _take_record(source: Path, step: int, run_dir: Path) -> None:
    """Of the steps before this one alone, or who reads it before the run begins sees the other one's end."""
    for name in (EVALUATIONS, GROUPS, STAGE_ENDS, ANSWERS, "experience"):
        if (source / name).exists():
            _copy(source / name, run_dir / name)
    with refused_if_broken():
        lengthen(run_dir, step)
        keep_before(run_dir, step)
        # Last and at once: with later steps in them the folder would be one of a run that was begun.
        rows = read_record(source / METRICS).rows
        rewrite(run_dir / METRICS, [row for row in rows if row["step"] < step])
    ledger.copy(source, run_dir, step)


def _fetch(address: str, target: Path) -> None:
    """A checkpoint from wherever it is."""
    files, path = storage_of(address)
    if isinstance(files, LocalFileSystem):
        _copy(Path(path), target)
        return
    remove(target)
    files.get(path, str(target), recursive=True)


def _copy(source: Path, target: Path) -> None:
    """A checkpoint's files are never written again, so that another name for them is enough."""

    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:  # another file system
            shutil.copy2(old, new)

    remove(target)
    if source.is_file():
        shutil.copy2(source, target)
    else:
        # What a run at work is just writing will have another name in a moment.
        being_written = shutil.ignore_patterns(f"*{UNFINISHED}")
        shutil.copytree(source, target, copy_function=link, ignore=being_written)
