"""The two tables of a run, as data and for the terminal: accuracy before and after, and where time went."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rlad_core.evaluation import PairedRow
from rlad_core.metric_specs import STAGES
from services.report.answers import change_of
from services.report.records import RunRecord
from services.report.teacher_cost import teacher_cost

# What the paper's latency table calls a stage; its log-probs are the old policy's and the teacher's together.
PAPER_TERMS = {"update": "update", "old_logprobs": "log-probs", "teacher": "log-probs", "step": "total"}
STAGE_LABELS = {
    "rollout": "rollout",
    "reference": "reference log-probs",
    "teacher": "teacher log-probs",
    "verify": "verification",
    "assemble": "assembly",
    "sleep": "engines' sleep and waking",
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
    """One stage over the whole run.

    Attributes:
        stage: its name, "other" for the time in which none was at work, "step" for the whole.
        total: seconds that it added to the steps.
        mean: the same, per step.
        share: the same, of the steps' whole time.
        hidden: seconds in which it worked behind another stage, and so cost nothing.
    """

    stage: str
    total: float
    mean: float
    share: float
    hidden: float

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
    whole = record.seconds("step")
    added = {stage: record.added_seconds(stage) for stage in STAGES if stage != "step"}
    timed = np.any([~np.isnan(seconds) for seconds in added.values()], axis=0)
    count, length = int(timed.sum()), float(whole[timed].sum())
    if count == 0 or length == 0:
        return []
    lines = []
    for stage, seconds in added.items():
        if not np.isnan(seconds).all():
            total = float(np.nansum(seconds))
            at_work = float(np.nansum(record.seconds(stage)[timed]))
            lines.append(StageLine(stage, total, total / count, total / length, max(at_work - total, 0.0)))
    rest = max(length - sum(line.total for line in lines), 0.0)
    lines.append(StageLine("other", rest, rest / count, rest / length, 0.0))
    lines.append(StageLine("step", length, length / count, 1.0, 0.0))
    return lines


def evaluation_table(record: RunRecord) -> Table:
    """Accuracy per subset before and after, with 95% intervals, for the terminal."""
    after = after_label(record)
    table = Table(title="Accuracy on held-out prompts", title_justify="left", caption_justify="left")
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
        table.add_row(escape(line.subset.replace("_", " ")), str(line.total), *cells, change)
    if not lines:
        table.caption = "No evaluation is recorded yet."
    elif any(line.verdict for line in lines):
        table.caption = "Change in percentage points; coloured where the two intervals don't touch."
    return table


def change_table(record: RunRecord) -> Table | None:
    """The last evaluation against the first on the same problems, for the terminal; None without responses.

    Raises:
        SchemaError: a file of responses is broken; names it.
    """
    lines = [replace(line, subset=line.subset.replace("_", " ")) for line in change_of(record.folder)]
    return paired_table(lines, "Change on the same problems") if lines else None


def paired_table(lines: Sequence[PairedRow], title: str) -> Table:
    """Differences of two models on the same problems, for the terminal."""
    table = Table(title=escape(title), title_justify="left", caption_justify="left")
    table.add_column("subset")
    for heading in ("problems", "points", "95%", "gained", "lost", "McNemar p"):
        table.add_column(heading, justify="right")
    for line in lines:
        there = line.low is not None and line.high is not None
        table.add_row(
            escape(line.subset),
            str(line.problems),
            f"{100 * line.difference:+.1f}",
            f"{100 * (line.low or 0):+.1f} – {100 * (line.high or 0):+.1f}" if there else "–",
            *("–" if count is None else str(count) for count in (line.gained, line.lost)),
            "–" if line.p_value is None else f"{line.p_value:.2g}",
        )
    table.caption = (
        "Points of Mean@k; intervals by bootstrap over problems. gained, lost: problems that one alone has "
        "right, with single samples."
    )
    return table


def stage_time_table(record: RunRecord) -> Table:
    """Seconds per stage, with the paper's names for them, for the terminal."""
    table = Table(title="Time per stage", title_justify="left", caption_justify="left")
    table.add_column("stage")
    table.add_column("in the paper")
    for heading in ("seconds", "per step", "share", "hidden"):
        table.add_column(heading, justify="right")
    lines = stage_lines(record)
    for line in lines:
        if line.stage == "step":
            table.add_section()
        table.add_row(
            line.label,
            line.paper_term,
            f"{line.total:.1f}",
            f"{line.mean:.2f}",
            f"{100 * line.share:.1f}%",
            f"{line.hidden:.1f}" if line.hidden >= 0.05 else "",
        )
    table.caption = (
        "Seconds that a stage adds to the step; hidden: those behind another stage, which cost nothing."
        if lines
        else "No step with times is recorded yet."
    )
    if (cost := teacher_cost(record)) is not None:
        table.caption += f"\nThe teacher {cost}."
    return table
