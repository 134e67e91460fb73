"""What a run wrote about itself: ``recipe.yaml``, ``metrics.jsonl``, ``evaluation.jsonl``.

``metrics.jsonl`` has one JSON object per learner step. Read here are

- ``step``, ``stage`` (the recipe's stage), ``tokens`` (generated in the step);
- ``reward_mean``, ``accuracy``, ``kl_to_teacher``, ``clip_fraction_low``, ``clip_fraction_high``,
  ``entropy``, ``response_length``;
- ``seconds``: stage -> seconds in which it was at work, with the whole as ``step``;
- ``shares``: stage -> share of the step in which it was at work and no earlier stage was (so they add up to 1
  with ``idle``; see `rlad_core.timeline`). Where groups are sampled ahead: in which the step waited for it;
- where groups are sampled ahead, ``teacher_at_work_seconds``, in which the teacher scored since the step
  before was trained, and ``teacher_added_seconds``, in which the learner waited for it alone.

``evaluation.jsonl`` has one object per evaluation and subset: ``step``, ``when`` (before, step or after),
``subset``, ``correct``, ``total``, ``accuracy``, ``low`` and ``high`` (95% interval), ``truncated``, and
``reward`` (mean of the responses; older runs have none).

``stage_ends.jsonl`` has one object per stage that a rule ended: its last ``step``, ``stage`` and ``why``.

A resumed run repeats the steps since its last checkpoint; the later record counts.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import ValidationError

from rlad_core.config import RunConfig, parse
from rlad_core.sections.paths import FOLDER
from services.report.record_lines import EVALUATIONS, METRICS, STAGE_ENDS, LinesError, read_record

EVALUATION_KEYS = ("when", "subset", "total", "accuracy", "low", "high")


class ReportError(Exception):
    """There is no run to report on, or its record is broken."""


@dataclass(frozen=True)
class RunRecord:
    """A run's records, as far as they go."""

    folder: Path
    recipe: RunConfig | None
    steps: list[dict[str, Any]]
    """By rising ``step``, each step once."""
    evaluations: list[dict[str, Any]]
    """In the order of the file, each (when, step, subset) once."""
    remarks: tuple[str, ...]
    """What was missing or could not be read, one sentence each."""
    stage_ends: tuple[dict[str, Any], ...] = ()
    """Of stages that a rule ended, in their order."""

    def series(self, key: str) -> npt.NDArray[np.float64]:
        """One value per step, float64 [steps]; NaN where a step has none."""
        return np.array([_number(row.get(key)) for row in self.steps], dtype=np.float64)

    def seconds(self, stage: str) -> npt.NDArray[np.float64]:
        """Seconds per step in which a stage was at work, float64 [steps]; NaN where a step has none."""
        return self._of_stage("seconds", stage)

    def added_seconds(self, stage: str) -> npt.NDArray[np.float64]:
        """Seconds that a stage added to each step, so without those behind another stage; [steps]."""
        return self._of_stage("shares", stage) * self.seconds("step")

    def _of_stage(self, key: str, stage: str) -> npt.NDArray[np.float64]:
        return np.array([_number((row.get(key) or {}).get(stage)) for row in self.steps], dtype=np.float64)


def refuse_missing(folder: Path) -> None:
    """Refuse a folder that is not there.

    Raises:
        ReportError: says which runs are near.
    """
    if not folder.is_dir():
        near = sorted(str(path.parent) for path in folder.parent.glob("*/recipe.yaml"))
        there = f" Runs there: {', '.join(near)}." if near else ""
        raise ReportError(
            f"there is no folder {folder}. Write the folder of a run, such as runs/NAME.{there}"
        )


def read_run(folder: str | Path) -> RunRecord:
    """Read the records of a run.

    The last line of a run that was killed is often half a line: it is left out, and named in the remarks.

    Raises:
        ReportError: there is no such folder, it is not a run's, or another line is broken.
    """
    folder = Path(folder)
    files = ("recipe.yaml", METRICS, EVALUATIONS)
    refuse_missing(folder)
    if not any((folder / name).exists() for name in files):
        raise ReportError(f"{folder} is not the folder of a run: it has none of {', '.join(files)}")
    remarks: list[str] = []
    recipe = _recipe(folder / "recipe.yaml", remarks)
    steps = _rows(folder / METRICS, (), ("step",), remarks)
    evaluations = _rows(folder / EVALUATIONS, EVALUATION_KEYS, ("when", "step", "subset"), remarks)
    stage_ends = _rows(folder / STAGE_ENDS, ("stage", "why"), ("step",), remarks)
    steps.sort(key=lambda row: row["step"])
    if not steps:
        remarks.append("No step has finished yet.")
    elif recipe is not None and len(steps) < recipe.total_steps:
        remarks.append(f"The run is not over: {len(steps)} of {recipe.total_steps} steps are recorded.")
    return RunRecord(folder, recipe, steps, evaluations, tuple(remarks), tuple(stage_ends))


def _recipe(file: Path, remarks: list[str]) -> RunConfig | None:
    try:
        values = parse(file.read_text(encoding="utf-8"))
        return RunConfig.model_validate(values, context={FOLDER: file.absolute().parent})
    except FileNotFoundError:
        remarks.append("There is no recipe.yaml, so models, method and planned steps are not shown.")
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        remarks.append(
            f"recipe.yaml cannot be read ({reason}), so models, method and planned steps are not shown."
        )
    return None


def _rows(
    file: Path, needed: tuple[str, ...], identity: tuple[str, ...], remarks: list[str]
) -> list[dict[str, Any]]:
    """The objects of a file of the record; of those with the same identity the last."""
    try:
        lines = read_record(file)
    except LinesError as error:
        raise ReportError(str(error)) from error
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    repeated = 0
    for number, row in lines.by_number.items():
        if absent := [key for key in needed if key not in row]:
            remarks.append(f"Line {number} of {file.name} has no {', '.join(absent)}; left out.")
            continue
        key = tuple(row.get(name) for name in identity)
        repeated += key in rows
        rows.pop(key, None)
        rows[key] = row
    if lines.cut_off is not None:
        remarks.append(
            f"Line {lines.cut_off} of {file.name}, the last, is cut off (was the run killed while writing?); "
            "left out."
        )
    if repeated:
        remarks.append(
            f"{repeated} {'line' if repeated == 1 else 'lines'} of {file.name} came again after a resume; "
            "the later one counts."
        )
    return list(rows.values())


def _number(value: Any) -> float:
    """As our own writer has it, which knows of no infinite ones: what is not finite is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.nan
    return float(value)
