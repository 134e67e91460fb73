"""A run's folder before the run works in it: new, or of a run that is resumed.

runs/NAME/recipe.yaml      as the run is carried out now
runs/NAME/forked/          of a fork: the checkpoint that it starts from
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rlad_core.config import RunConfig, parse
from rlad_core.config.loading import with_value
from rlad_core.config.resume import changes, refused
from rlad_core.config.yaml_text import dump_values
from rlad_core.sections.findings import problems_of
from rlad_core.sections.paths import FOLDER
from rlad_core.stage_rules import StageRules
from services.base.whole_files import write_whole
from services.learner.checkpoint import FORKED, CheckpointError, Found, address_of, forked, whole_ones
from services.report import ledger
from services.report.answers import ANSWERS
from services.report.record_lines import EVALUATIONS, GROUPS, METRICS, STAGE_ENDS, LinesError, read_record
from services.report.taking_back import check_record, lengthen
from services.report.trackers import NAMED
from services.run import lease, own_code, replayed
from services.run.changed import CHANGES, listed, note
from services.run.divergence import DIVERGED
from services.run.errors import RefusedError, refused_if_broken

RECIPE, FAILURE = "recipe.yaml", "failure.log"
FORKING = f"{FORKED}.new"
"""What becomes `FORKED` once it is whole."""
Prepared = tuple[RunConfig, list[str]]
"""The recipe with the code that the run's folder keeps, and what a person should know."""


def begun(run_dir: Path, config: RunConfig | None = None) -> bool:
    """Whether a run has got as far as that there is something to lose: a step, or a checkpoint of its own.

    A record that is broken has something to lose too: it tells of steps, and not of which.

    Args:
        config: says where the checkpoints are; None: in the run's folder.

    Raises:
        RefusedError: checkpoints or record cannot be read.
    """
    if checkpoints_of(run_dir, config):
        return True
    first = _forked_at(run_dir)
    try:
        lines = read_record(run_dir / METRICS)
    except LinesError:
        return True
    except OSError as error:
        raise RefusedError(f"{run_dir / METRICS} cannot be read: {error.strerror or error}") from error
    return lines.cut_off is not None or any(row["step"] >= first for row in lines.rows)


def goes_on(run_dir: Path, config: RunConfig) -> bool:
    """Whether a command that is given again goes on with what is there: a run that was begun, or one that was
    forked and is still to begin.

    Raises:
        RefusedError: see `begun`.
    """
    return begun(run_dir, config) or _is_fork(run_dir)


def _is_fork(run_dir: Path) -> bool:
    """Whether a run is to go on, or went on, from another one's checkpoint."""
    return (run_dir / RECIPE).is_file() and (run_dir / FORKED).exists()


def last_checkpoint(run_dir: Path) -> Mapping[str, Any] | None:
    """State of the checkpoint that a resumed run would go on from; None: there is none.

    Raises:
        RefusedError: they cannot be read, or the recipe, which says where they are.
    """
    config = recipe_of(run_dir) if (run_dir / RECIPE).is_file() else None
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


def begin(
    config: RunConfig, run_dir: Path, fill: Callable[[], None] | None = None, *, forks: bool = False
) -> Prepared:
    """Write recipe and code; the folder is new, or of a start that failed before its first step.

    Args:
        fill: writes what else the run begins with. The recipe comes after it: a folder that a kill leaves
            before has none, and is gone on with by nobody.
        forks: it is another run's checkpoint, so that one from before is not missed.

    Raises:
        RefusedError: there is a run that was begun or forked, or the code cannot be used.
    """
    if begun(run_dir, config):
        raise _in_the_way(run_dir) if begun(run_dir) else _checkpoints_in_the_way(run_dir, config)
    if _is_fork(run_dir) and not forks:
        raise _in_the_way(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    for name in (RECIPE, *_RECORD, FORKED, FORKING):
        remove(run_dir / name)
    values = own_code.keep(config, run_dir)
    if fill is not None:
        fill()
    _write_recipe(values, run_dir)
    try:
        return with_copies(config, run_dir)
    except RefusedError:
        for name in (RECIPE, own_code.FOLDER):
            remove(run_dir / name)
        raise


def resume(config: RunConfig, run_dir: Path) -> Prepared:
    """Compare the recipe with the run's; what may change is noted and taken.

    Raises:
        RefusedError: something else differs; lists it. Or the record is broken.
    """
    config, remarks = with_copies(config, run_dir)
    before, last = recipe_of(run_dir), _last(run_dir, config)
    done, frontier = (last.step, last.state.get("frontier")) if last else (0, None)
    if not checkpoints_of(run_dir, config) and checkpoints_of(run_dir, before):
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
            f"the recipe differs from that of the run in {run_dir}:\n{listed(bad)}\n"
            f"Resume with the run's own, {run_dir / RECIPE}; or put --fork NAME in place of --resume, for "
            "a new run that starts from this one's checkpoint"
        )
    with refused_if_broken():
        check_record(run_dir)  # else it would be found when all services are up
    remove(run_dir / DIVERGED)  # it goes on, and may come further with what was changed
    if done < config.total_steps:
        lengthen(run_dir, done)
    if found:
        values = parse((run_dir / RECIPE).read_text(encoding="utf-8"))
        for change in found:
            values = with_value(values, change.path, change.new)
        note(run_dir, done, found)
        _write_recipe(values, run_dir)
        remarks.append(f"changed from step {done} on:\n{listed(found)}")
    return config, remarks


_RECORD = (
    *(METRICS, EVALUATIONS, GROUPS, STAGE_ENDS, CHANGES, FAILURE, DIVERGED),
    *("log.jsonl", "experience", "tensorboard", "initial"),
    *("report.html", "plots", ANSWERS, "prompts.json", "dropped.jsonl", NAMED, replayed.FILE),
    *(ledger.LEDGER, f"{ledger.LEDGER}-journal"),
)
"""What a start that failed may have left."""


def recipe_of(run_dir: Path) -> RunConfig:
    """The recipe of a run.

    Raises:
        RefusedError: it cannot be read.
    """
    file = run_dir / RECIPE
    try:
        values = parse(file.read_text(encoding="utf-8"))
        return RunConfig.model_validate(values, context={FOLDER: run_dir})
    except ValidationError as error:
        problems = "; ".join(map(str, problems_of(error, RunConfig)))
        raise RefusedError(f"{file} cannot be read any more: {problems}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RefusedError(f"{file} cannot be read: {error}") from error


def with_copies(config: RunConfig, run_dir: Path) -> Prepared:
    """A recipe with the code that the run's folder keeps.

    Raises:
        RefusedError: that cannot be used.
    """
    try:
        return own_code.kept(config, run_dir)
    except ValidationError as error:
        problems = "; ".join(map(str, problems_of(error, RunConfig)))
        raise RefusedError(
            f"the copy of your code in {run_dir} cannot be used: {problems}. Copied are the files that a "
            "recipe names and those beside them that they import; name other files in the recipe"
        ) from error


def checkpoints_of(run_dir: Path, config: RunConfig | None) -> dict[int, Found]:
    """Whole checkpoints of a run by the steps done before them.

    Args:
        config: says where they are; None: in the run's folder.

    Raises:
        RefusedError: they cannot be read.
    """
    try:
        if config is None:
            return whole_ones(str(run_dir))
        return whole_ones(address_of(str(run_dir), config.output.checkpoints, config.name))
    except CheckpointError as error:
        raise RefusedError(str(error)) from error


def _last(run_dir: Path, config: RunConfig | None) -> Found | None:
    """The checkpoint that the run would go on from."""
    found = checkpoints_of(run_dir, config)
    return found[max(found)] if found else _forked(run_dir)


def _forked_at(run_dir: Path) -> int:
    """Steps that another run did before this one; 0 where there was none."""
    source = _forked(run_dir)
    return 0 if source is None else source.step


def _forked(run_dir: Path) -> Found | None:
    try:
        return forked(run_dir)
    except CheckpointError as error:
        raise RefusedError(str(error)) from error


def _write_recipe(values: dict[str, Any], run_dir: Path) -> None:
    write_whole(run_dir / RECIPE, dump_values(values))


def remove(path: Path) -> None:
    """Take away a file or a folder, where it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
