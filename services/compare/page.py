"""The report of a comparison: one HTML page that needs no other file and no network, PNGs, a JSON table."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import yaml
from plotly.offline import get_plotlyjs

from rlad_core.evaluation import AVERAGE
from services.compare.drawing import to_html, write_png
from services.compare.plots import plots_of
from services.compare.results import Results
from services.compare.tables import accuracy_rows, machine_table, outcome_of, points, real, said, stage_rows
from services.report.html import template, write_whole
from services.report.tables import STAGE_LABELS

PAGE, TABLE, PLOTS = "report.html", "results.json", "plots"


def write(results: Results, folder: Path) -> Path:
    """Write ``report.html``, ``results.json`` and ``plots/`` over those of an earlier call; the page's file.

    Raises:
        OSError: the folder cannot be written to.
    """
    plots = plots_of(results)
    (folder / PLOTS).mkdir(exist_ok=True)
    for plot in plots:
        write_png(plot, folder / PLOTS / f"{plot.name}.png")
    table = json.dumps(machine_table(results), indent=1, allow_nan=False) + "\n"
    write_whole(folder / TABLE, table)
    stages, times = stage_rows(results)
    rows = [{**row, "average": row[AVERAGE]} for row in accuracy_rows(results)]
    text = template("comparison.html.jinja").render(
        name=results.suite.name,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        plotly=get_plotlyjs() if plots else "",
        suite=results.suite,
        remarks=[f"{name} is not in it: {why}." for name, why in results.missing.items()],
        subsets=results.subsets,
        rows=rows,
        differences=results.differences,
        real=real(results),
        figures=[to_html(plot) for plot in plots],
        stages=stages,
        times=times,
        labels=STAGE_LABELS,
        tuning=results.tuned,
        yaml=yaml.safe_dump(results.suite.model_dump(mode="json"), sort_keys=False, width=110),
        said=said,
        points=points,
        outcome_of=outcome_of,
    )
    write_whole(folder / PAGE, text)
    return folder / PAGE
