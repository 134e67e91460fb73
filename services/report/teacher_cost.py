"""What the teacher costs a run: time that it adds to steps, and what it takes of its own devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from services.report.records import RunRecord

#: Of a step without a teacher: 76.2 s of 491.2 s, student 8B, teacher 32B, same GPUs (arXiv 2602.22495).
PAPER_SHARE = 0.155


@dataclass(frozen=True)
class TeacherCost:
    """Of a run.

    Attributes:
        added_s: seconds that it added to a step: those behind rollouts cost none, nor those behind the
            learner, or beside a frozen reference.
        share: the same, of the step without them, as the paper counts.
        at_work_s: seconds for each step that was trained on what it said, between steps too where it works
            ahead.
        device: what it computes on.
        device_s: devices that are reserved for it, times the seconds in which it scored, for a thousand
            trained tokens: of cores that it shares it gets less. None where it is served elsewhere, or nobody
            noted how many tokens were trained on.
    """

    added_s: float
    share: float
    at_work_s: float
    device: Literal["GPU", "core"]
    device_s: float | None

    def __str__(self) -> str:
        told = (
            f"adds {self.added_s:.2f} s to a step, {100 * self.share:.1f}% of one without it (the paper: "
            f"{100 * PAPER_SHARE:.1f}%); at work {self.at_work_s:.2f} s for each step"
        )
        if self.device_s is None:
            return told
        return f"{told}, {self.device_s:.3g} {self.device}-seconds reserved for 1,000 trained tokens"


def teacher_cost(record: RunRecord) -> TeacherCost | None:
    """Over all steps with a teacher; None where no step has one."""
    if record.recipe is not None and not record.recipe.scores_with_teacher:
        return None  # older runs timed a frozen reference as a teacher
    ahead = record.series("teacher_at_work_seconds")
    at_work = np.where(np.isnan(ahead), record.seconds("teacher"), ahead)
    asked = _asked(record, at_work)
    if not asked.any():
        return None
    at_work = np.nan_to_num(at_work)
    whole, added = record.seconds("step")[asked], np.nan_to_num(record.added_seconds("teacher")[asked])
    noted = record.series("teacher_added_seconds")[asked]
    added = np.where(np.isnan(noted), added, noted)
    tokens = record.series("trained_tokens")[asked]
    device: Literal["GPU", "core"] = "core"
    devices = 0.0
    if record.recipe is not None:
        device, devices = record.recipe.teacher_devices
    busy, trained = float(at_work[asked].sum()), float(tokens.sum())
    return TeacherCost(
        added_s=float(added.mean()),
        share=float(added.sum() / (whole.sum() - added.sum())) if whole.sum() > added.sum() else np.inf,
        at_work_s=float(at_work[asked].mean()),
        device=device,
        device_s=busy * devices / (trained / 1000) if devices and trained > 0 else None,
    )


def _asked(record: RunRecord, at_work: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Steps that were trained on what the teacher said, bool [steps].

    Where groups are sampled ahead, those of a step may all have been scored in the time of the steps before:
    it cost nothing then, and its tokens are trained on all the same.
    """
    scored = at_work > 0
    if record.recipe is None or not record.recipe.rollout.max_staleness:
        return scored
    labels = {stage.label for stage in record.recipe.stages if stage.objective.scores_with_teacher}
    return scored | np.array([row.get("stage") in labels for row in record.steps], dtype=bool)
