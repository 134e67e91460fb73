"""The report itself: PNG files, and one HTML page that holds everything and needs no other file."""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np

from rlad_core.config import dump
from rlad_core.evaluation import PairedRow
from rlad_core.schema import SchemaError
from services.base.whole_files import write_whole
from services.report.answers import change_of
from services.report.html import kept_responses, template
from services.report.records import RunRecord, read_run
from services.report.stage_ends import steps_said
from services.report.tables import after_label, evaluation_lines, stage_lines
from services.report.teacher_cost import teacher_cost


@dataclass(frozen=True)
class ReportPaths:
    """What was written, and what was left out."""

    html: Path
    plots: tuple[Path, ...]
    remarks: tuple[str, ...]
    """What is missing in the report and why, one sentence each."""


def write_report(run_dir: str | Path) -> ReportPaths:
    """Write ``report.html`` and ``plots/*.png`` into a run's folder, over those of an earlier call.

    Raises:
        ReportError: there is no such run.
        OSError: the folder cannot be written to.
    """
    from services.report.plots import PLOTS  # and matplotlib, which a run that starts need not wait for

    record = read_run(run_dir)
    folder = record.folder / "plots"
    folder.mkdir(exist_ok=True)
    remarks, images, files = list(record.remarks), [], []
    for name, plot in PLOTS.items():
        drawn = plot(record) if record.steps or name.startswith("evaluation") else ""
        file = folder / f"{name}.png"
        if isinstance(drawn, str):
            file.unlink(missing_ok=True)  # an earlier report's plot would contradict this one
            remarks += [drawn] if drawn else []
            continue
        buffer = BytesIO()
        drawn.savefig(buffer, format="png")
        file.write_bytes(buffer.getvalue())
        files.append(file)
        axes = drawn.axes[0]
        title = f"{axes.get_title(loc='left')}, {axes.get_ylabel()}"
        images.append({"title": title, "data": base64.b64encode(buffer.getvalue()).decode()})
    html = record.folder / "report.html"
    write_whole(html, _render(record, images, remarks))
    return ReportPaths(html, tuple(files), tuple(remarks))


def _render(record: RunRecord, images: list[dict[str, str]], remarks: list[str]) -> str:
    change, kept = _change(record, remarks), kept_responses(record.folder, remarks)
    return template("report.html.jinja").render(
        name=record.recipe.name if record.recipe else record.folder.resolve().name,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        facts=_facts(record),
        remarks=remarks,
        evaluation=evaluation_lines(record),
        after=after_label(record),
        stages=stage_lines(record),
        images=images,
        change=change,
        kept=kept,
        recipe=dump(record.recipe) if record.recipe else None,
    )


def _change(record: RunRecord, remarks: list[str]) -> list[PairedRow]:
    try:
        return change_of(record.folder)
    except (SchemaError, ValueError) as error:
        remarks.append(f"The change on the same problems is left out: {str(error).rstrip('.')}.")
        return []


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """What a reader wants to know first, as (name, value)."""
    facts = []
    recipe = record.recipe
    if recipe is not None:
        facts.append(("Student", recipe.policy.model))
        if recipe.needs_teacher:
            facts += [("Teacher", teacher.where) for teacher in recipe.teacher_sections.values()]
        lengths = zip(recipe.stages, steps_said(recipe), strict=True)
        facts.append(("Method", "; then ".join(f"{stage.label}, {steps} steps" for stage, steps in lengths)))
    planned = f" of {recipe.total_steps}" if recipe is not None else ""
    facts.append(("Steps", f"{len(record.steps)}{planned}"))
    for row in record.stage_ends:
        facts.append(
            (f"Stage {row['stage']}", f"ended by its rule after step {row['step'] + 1}: {row['why']}")
        )
    seconds, tokens = record.seconds("step"), record.series("tokens")
    if not np.isnan(seconds).all():
        facts.append(("Time in steps", _duration(float(np.nansum(seconds)))))
    if not np.isnan(tokens).all():
        facts.append(("Tokens", f"{int(np.nansum(tokens)):,}"))
    if (cost := teacher_cost(record)) is not None:
        facts.append(("The teacher", str(cost)))
    cut_off, responses = record.series("truncated"), record.series("responses")
    if not np.isnan(cut_off).all():
        sampled = np.nansum(responses[~np.isnan(cut_off)])
        facts.append(("Cut off", f"{np.nansum(cut_off):,.0f} of {sampled:,.0f} responses"))
    if (record.folder / "export").is_dir():
        facts.append(("Exported model", str(record.folder / "export")))
    return facts


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
