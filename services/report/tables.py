"""The two tables of a run, as data and for the terminal: accuracy before and after, and where time went."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from rlad_core.metrics import STAGES
from services.report.records import RunRecord

# What the paper's latency table calls a stage; its log-probs are the old policy's and the teacher's together.
PAPER_TERMS = {"update": "update", "old_logprobs": "log-probs", "teacher": "log-probs", "step": "total"}
STAGE_LABELS = {
    "rollout": "rollout",
    "teacher": "teacher log-probs",
    "verify": "verification",
    "assemble": "assembly",
    "old_logprobs": "old log-probs",
    "update": "update",
    "weight_sync": "weight sync",
    "checkpoint": "checkpoint",
    "evaluation": "evaluation",
    "other": "other",
    "step": "total",
}


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one evaluation on one subset, all in 0..1."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f}%"

    @property
    def interval(self) -> str:
        """The 95% interval in percent."""
        return f"{100 * self.low:.1f} – {100 * self.high:.1f}"


@dataclass(frozen=True)
class EvaluationLine:
    """One subset: ``after`` is the last evaluation there is, None while there is only the first."""

    subset: str
    total: int
    before: Accuracy | None
    after: Accuracy | None

    @property
    def change(self) -> str:
        """Difference in percentage points."""
        if self.before is None or self.after is None:
            return "–"
        return f"{100 * (self.after.value - self.before.value):+.1f}"

    @property
    def verdict(self) -> str:
        """Whether it is "better" or "worse" where the intervals do not touch, else empty."""
        if self.before is None or self.after is None:
            return ""
        if self.after.low > self.before.high:
            return "better"
        return "worse" if self.after.high < self.before.low else ""


@dataclass(frozen=True)
class StageLine:
    """One stage over the whole run: seconds in all and per step, and its share of the steps' time."""

    stage: str
    total: float
    mean: float
    share: float

    @property
    def label(self) -> str:
        """The stage in words."""
        return STAGE_LABELS[self.stage]

    @property
    def paper_term(self) -> str:
        """Its row in the paper's latency table, "" where it has none."""
        return PAPER_TERMS.get(self.stage, "")


def evaluation_lines(record: RunRecord) -> list[EvaluationLine]:
    """Accuracy per subset before and after; while a run goes on, after its latest evaluation."""
    subsets = dict.fromkeys(row["subset"] for row in record.evaluations)
    lines = []
    for subset in subsets:
        rows = [row for row in record.evaluations if row["subset"] == subset]
        before = [row for row in rows if row["when"] == "before"]
        later = [row for row in rows if row["when"] == "after"] or [
            row for row in rows if row["when"] == "step"
        ]
        latest = (later or before)[-1]
        lines.append(
            EvaluationLine(str(subset), int(latest["total"]), accuracy_of(before), accuracy_of(later))
        )
    return lines


def accuracy_of(rows: Sequence[dict[str, Any]]) -> Accuracy | None:
    """The accuracy that the last of some rows tells."""
    return Accuracy(rows[-1]["accuracy"], rows[-1]["low"], rows[-1]["high"]) if rows else None


def after_label(record: RunRecord) -> str:
    """Heading of the later evaluation: "after", or "after step 20" while the run goes on."""
    if any(row["when"] == "after" for row in record.evaluations):
        return "after"
    steps = [row["step"] for row in record.evaluations if row["when"] == "step"]
    return f"after step {max(steps)}" if steps else "after"


def stage_lines(record: RunRecord) -> list[StageLine]:
    """Every stage that took time, then what is left of the steps ("other"), then the whole ("step")."""
    steps = record.seconds("step")
    timed = ~np.isnan(steps)
    count, whole = int(timed.sum()), float(steps[timed].sum())
    if count == 0 or whole == 0:
        return []
    totals: dict[str, float] = {}
    for stage in STAGES:
        seconds = record.seconds(stage)[timed]
        if stage not in ("step", "evaluation") and not np.isnan(seconds).all():
            totals[stage] = float(np.nansum(seconds))
    rest = whole - sum(totals.values())
    rows = {**totals, "other": max(rest, 0.0), "step": whole}
    return [StageLine(stage, total, total / count, total / whole) for stage, total in rows.items()]


def hidden_teacher_seconds(record: RunRecord) -> float | None:
    """Teacher's time that cost nothing because it ran behind generation; None where it wasn't recorded."""
    hidden = record.series("teacher_hidden_seconds")
    return None if np.isnan(hidden).all() else float(np.nansum(hidden))


def evaluation_table(record: RunRecord) -> Table:
    """Accuracy per subset before and after, with 95% intervals, for the terminal."""
    after = after_label(record)
    table = Table(title="Accuracy on held-out puzzles", title_justify="left", caption_justify="left")
    table.add_column("subset")
    for heading in ("responses", "before", "95% interval", after, "95% interval", "change"):
        table.add_column(heading, justify="right")
    lines = evaluation_lines(record)
    styles = {"better": "bold green", "worse": "bold red", "": ""}
    for line in lines:
        cells = [
            part
            for one in (line.before, line.after)
            for part in ((str(one), one.interval) if one else ("–", "–"))
        ]
        change = Text(line.change, style=styles[line.verdict])
        table.add_row(line.subset.replace("_", " "), str(line.total), *cells, change)
    if not lines:
        table.caption = "No evaluation is recorded yet."
    elif any(line.verdict for line in lines):
        table.caption = "Change in percentage points; coloured where the two intervals don't touch."
    return table


def stage_time_table(record: RunRecord) -> Table:
    """Seconds per stage, with the paper's names for them, for the terminal."""
    table = Table(title="Time per stage", title_justify="left", caption_justify="left")
    table.add_column("stage")
    table.add_column("in the paper")
    for heading in ("seconds", "per step", "share"):
        table.add_column(heading, justify="right")
    lines = stage_lines(record)
    for line in lines:
        if line.stage == "step":
            table.add_section()
        table.add_row(
            line.label, line.paper_term, f"{line.total:.1f}", f"{line.mean:.2f}", f"{100 * line.share:.1f}%"
        )
    hidden = hidden_teacher_seconds(record)
    if not lines:
        table.caption = "No step with times is recorded yet."
    elif hidden is not None:
        table.caption = (
            f"The teacher worked another {hidden:.1f} s behind generation, which cost the steps nothing."
        )
    return table
