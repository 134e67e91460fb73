"""A run's folder before the run works in it: new, or of a run that is resumed or forked.

runs/NAME/recipe.yaml      as the run is carried out now
runs/NAME/changes.jsonl    settings that another value was given on the way, and at which step
runs/NAME/forked/          of a fork: the checkpoint that it starts from
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import yaml
from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from rlad_core.config import RunConfig, parse
from rlad_core.config.loading import dump_values, with_value
from rlad_core.config.resume import Change, changes, refused
from rlad_core.sections.findings import problems_of
from rlad_core.sections.paths import FOLDER
from rlad_core.stage_rules import StageRules
from services.learner.checkpoint import FORKED, Found, address_of, forked, whole_ones
from services.report import ledger
from services.report.answers import ANSWERS
from services.report.journal import EVALUATIONS, GROUPS, METRICS, keep_before, lengthen
from services.report.trackers import NAMED
from services.run import lease, own_code, replayed
from services.run.divergence import DIVERGED
from services.run.errors import RefusedError

RECIPE, CHANGES, FAILURE = "recipe.yaml", "changes.jsonl", "failure.log"
Prepared = tuple[RunConfig, list[str]]
"""The recipe with the code that the run's folder keeps, and what a person should know."""


def begun(run_dir: Path, config: RunConfig | None = None) -> bool:
    """Whether a run has got as far as that there is something to lose: a step, or a checkpoint of its own.

    Args:
        config: says where the checkpoints are; None: in the run's folder.
    """
    first = _forked_at(run_dir)
    return bool(_checkpoints(run_dir, config)) or any(
        row["step"] >= first for row in _rows(run_dir / METRICS)
    )


def last_checkpoint(run_dir: Path) -> Mapping[str, Any] | None:
    """State of the checkpoint that a resumed run would go on from; None: there is none.

    Raises:
        RefusedError: the recipe, which says where checkpoints are, cannot be read.
    """
    config = _recipe_of(run_dir) if (run_dir / RECIPE).is_file() else None
    last = _last(run_dir, config)
    return None if last is None else last.state


def check(run_dir: Path, *, resume: bool) -> None:
    """Refuse a folder that is somebody else's, or no run's, before anything is written.

    Raises:
        RefusedError: says what to do.
    """
    if resume and not (run_dir / RECIPE).is_file():
        raise RefusedError(f"there is no run to resume in {run_dir}: it has no {RECIPE}")
    ours = (run_dir / lease.FOLDER).is_dir()
    if not resume and run_dir.exists() and (not run_dir.is_dir() or (any(run_dir.iterdir()) and not ours)):
        raise _in_the_way(run_dir)


def begin(config: RunConfig, run_dir: Path) -> Prepared:
    """Write recipe and code; the folder is new, or of a start that failed before its first step.

    Raises:
        RefusedError: there is a run that was begun, or the code cannot be used.
    """
    if begun(run_dir, config):
        raise _in_the_way(run_dir) if begun(run_dir) else _checkpoints_in_the_way(run_dir, config)
    run_dir.mkdir(parents=True, exist_ok=True)
    values = own_code.keep(config, run_dir)
    for name in (*_RECORD, FORKED):
        _remove(run_dir / name)
    _write_recipe(values, run_dir)
    try:
        return _with_copies(config, run_dir)
    except RefusedError:
        for name in (RECIPE, own_code.FOLDER):
            _remove(run_dir / name)
        raise


def resume(config: RunConfig, run_dir: Path) -> Prepared:
    """Compare the recipe with the run's; what may change is noted and taken.

    Raises:
        RefusedError: something else differs; lists it.
    """
    config, remarks = _with_copies(config, run_dir)
    before, last = _recipe_of(run_dir), _last(run_dir, config)
    done, frontier = (last.step, last.state.get("frontier")) if last else (0, None)
    if not _checkpoints(run_dir, config) and _checkpoints(run_dir, before):
        # Else it would begin anew, and what it has recorded would go.
        there = address_of(str(run_dir), before.output.checkpoints, before.name)
        raise RefusedError(
            f"output.checkpoints: {config.output.checkpoints} has no checkpoint of the run, and {there} has. "
            "Bring them to where they are looked for, or leave the place as it was"
        )
    early_ends = StageRules(before, (frontier or {}).get("stages")).early_ends
    found = changes(before, config, done, early_ends)
    if bad := refused(found):
        raise RefusedError(
            f"the recipe differs from that of the run in {run_dir}:\n{_listed(bad)}\n"
            f"Resume with the run's own, {run_dir / RECIPE}; or put --fork NAME in place of --resume, for "
            "a new run that starts from this one's checkpoint"
        )
    _remove(run_dir / DIVERGED)  # it goes on, and may come further with what was changed
    if done < config.total_steps:
        _record(lengthen, run_dir, done)
    if found:
        values = parse((run_dir / RECIPE).read_text(encoding="utf-8"))
        for change in found:
            values = with_value(values, change.path, change.new)
        _note(run_dir, done, found)
        _write_recipe(values, run_dir)
        remarks.append(f"changed from step {done} on:\n{_listed(found)}")
    return config, remarks


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
    found = _checkpoints(source, _recipe_of(source))
    if not found or (step is not None and step not in found):
        there = f"after {', '.join(map(str, sorted(found)))} steps" if found else "none"
        raise RefusedError(f"{source} has no checkpoint to fork from; there are: {there}")
    step = max(found) if step is None else step
    different = [each for each in changes(_recipe_of(source), config, step) if each.path != "name"]
    models = [each for each in different if each.path in ("policy.model", "policy.init")]
    if models:
        raise RefusedError(
            f"a fork goes on with the model of {source}, and the recipe has\n{_listed(models)}"
        )
    adapters = [each for each in different if each.path.startswith("learner.lora")]
    if adapters:
        raise RefusedError(
            f"a checkpoint holds the weights that are trained, and those of {source} are others than\n"
            f"{_listed(adapters)}\nleads to. Begin a new run, from {source / 'export'} where it ended"
        )
    if step >= config.total_steps:
        raise RefusedError(
            f"the checkpoint of {source} comes after {step} steps, and the recipe's stages have "
            f"{config.total_steps}. Write more steps, or another checkpoint: --from-step N"
        )
    begin(config, run_dir)
    # The checkpoint first, and whole: with the record alone the folder would be one of a run that was begun,
    # and that goes on from nothing.
    unfinished = run_dir / f"{FORKED}.new"
    _remove(unfinished)
    _fetch(found[step].address, unfinished)
    unfinished.rename(run_dir / FORKED)
    for name in (EVALUATIONS, GROUPS, ANSWERS, "experience", METRICS):
        if (source / name).exists():
            _copy(source / name, run_dir / name)
    _record(lengthen, run_dir, step)
    _record(keep_before, run_dir, step)  # now, or who reads it before the run begins sees the other one's end
    ledger.copy(source, run_dir, step)
    _note(run_dir, step, different, forked=str(source))
    config, remarks = _with_copies(config, run_dir)
    listed = f" with\n{_listed(different)}" if different else ""
    return config, [f"goes on from {source} after {step} steps{listed}", *remarks]


_RECORD = (
    *(METRICS, EVALUATIONS, GROUPS, CHANGES, FAILURE, DIVERGED),
    *("log.jsonl", "experience", "tensorboard", "initial"),
    *("report.html", "plots", ANSWERS, "prompts.json", "dropped.jsonl", NAMED, replayed.FILE),
    *(ledger.LEDGER, f"{ledger.LEDGER}-journal"),
)
"""What a start that failed may have left."""


def _record(change: Callable[[Path, int], None], run_dir: Path, step: int) -> None:
    """Have the record of a run changed."""
    try:
        change(run_dir, step)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _recipe_of(run_dir: Path) -> RunConfig:
    file = run_dir / RECIPE
    try:
        values = parse(file.read_text(encoding="utf-8"))
        return RunConfig.model_validate(values, context={FOLDER: run_dir})
    except ValidationError as error:
        problems = "; ".join(map(str, problems_of(error, RunConfig)))
        raise RefusedError(f"{file} cannot be read any more: {problems}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RefusedError(f"{file} cannot be read: {error}") from error


def _with_copies(config: RunConfig, run_dir: Path) -> Prepared:
    try:
        return own_code.kept(config, run_dir)
    except ValidationError as error:
        problems = "; ".join(map(str, problems_of(error, RunConfig)))
        raise RefusedError(
            f"the copy of your code in {run_dir} cannot be used: {problems}. Copied are the files that a "
            "recipe names and those beside them that they import; name other files in the recipe"
        ) from error


def _checkpoints(run_dir: Path, config: RunConfig | None) -> dict[int, Found]:
    """Whole checkpoints by the steps done before them."""
    if config is None:
        return whole_ones(str(run_dir))
    return whole_ones(address_of(str(run_dir), config.output.checkpoints, config.name))


def _last(run_dir: Path, config: RunConfig | None) -> Found | None:
    """The checkpoint that the run would go on from."""
    found = _checkpoints(run_dir, config)
    return found[max(found)] if found else forked(run_dir)


def _forked_at(run_dir: Path) -> int:
    """Steps that another run did before this one; 0 where there was none."""
    source = forked(run_dir)
    return 0 if source is None else source.step


def _fetch(address: str, target: Path) -> None:
    """A checkpoint from wherever it is."""
    files, path = fsspec.core.url_to_fs(address)
    if isinstance(files, LocalFileSystem):
        _copy(Path(path), target)
        return
    _remove(target)
    files.get(path, str(target), recursive=True)


def _rows(file: Path) -> list[dict[str, Any]]:
    rows = []
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]


def _note(run_dir: Path, step: int, found: Sequence[Change], **more: str) -> None:
    row = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": step,
        **more,
        "changes": [{"path": each.path, "old": each.old, "new": each.new} for each in found],
    }
    with (run_dir / CHANGES).open("a") as file:
        file.write(json.dumps(row) + "\n")


def _write_recipe(values: dict[str, Any], run_dir: Path) -> None:
    part = run_dir / f"{RECIPE}.part"
    part.write_text(dump_values(values))
    part.replace(run_dir / RECIPE)


def _copy(source: Path, target: Path) -> None:
    """A checkpoint's files are never written again, so that another name for them is enough."""

    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:  # another file system
            shutil.copy2(old, new)

    _remove(target)
    if source.is_file():
        shutil.copy2(source, target)
    else:
        shutil.copytree(source, target, copy_function=link)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _listed(found: Sequence[Change]) -> str:
    return "\n".join(f"  - {change}" for change in found)


def _checkpoints_in_the_way(run_dir: Path, config: RunConfig) -> RefusedError:
    there = address_of(str(run_dir), config.output.checkpoints, config.name)
    return RefusedError(
        f"{there} (output.checkpoints) has checkpoints of another run of this name. Choose another name with "
        "--set name=..., or delete them"
    )


def _in_the_way(run_dir: Path) -> RefusedError:
    return RefusedError(
        f"{run_dir} exists already. Continue that run with --resume, choose another name with "
        f"--set name=..., or delete the folder"
    )
