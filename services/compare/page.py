"""The report of a comparison: one HTML page that needs no other file and no network, PNGs, a JSON table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from plotly.offline import get_plotlyjs

from rlad_core.config.yaml_text import dump_values
from rlad_core.evaluation import AVERAGE
from services.base.whole_files import write_whole
from services.compare.drawing import to_html, write_png
from services.compare.machine import machine_table, to_json
from services.compare.plots import FILES, Plot, plots_of
from services.compare.remarks import remarks_of, same_for_all
from services.compare.results import Results, listed
from services.compare.tables import (
    accuracy_rows,
    by_seed,
    interval_words,
    no_spread,
    not_compared,
    outcome_of,
    p_said,
    points,
    real,
    said,
    seeds_remark,
    stage_rows,
)
from services.report.html import template
from services.report.tables import STAGE_LABELS

PAGE, TABLE, PLOTS = "report.html", "results.json", "plots"


def write(results: Results, folder: Path) -> Path:
    """Write ``report.html``, ``results.json`` and ``plots/`` over those of an earlier call; the page's file.

    Raises:
        OSError: the folder cannot be written to.
    """
    plots = plots_of(results)
    _draw(plots, folder / PLOTS)
    write_whole(folder / TABLE, to_json(machine_table(results, plots)))
    stages, times = stage_rows(results)
    rows = [{**row, "average": row[AVERAGE]} for row in accuracy_rows(results)]
    text = template("comparison.html.jinja").render(
        name=results.suite.name,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        plotly=get_plotlyjs() if plots else "",
        suite=results.suite,
        remarks=[
            *([results.part] if results.part else []),
            *(f"{name} is not in it: {why}." for name, why in results.missing.items()),
            *not_compared(results),
            *remarks_of(results),
        ],
        same=same_for_all(results),
        intervals=interval_words(results),
        seeds_remark=seeds_remark(results),
        no_spread=no_spread(results),
        subsets=results.subsets,
        rows=rows,
        differences=results.differences,
        real=real(results),
        figures=[(to_html(plot), plot.remark) for plot in plots],
        stages=stages,
        times=times,
        labels=STAGE_LABELS,
        tuning=results.tuned,
        yaml=dump_values(results.suite.model_dump(mode="json")),
        said=said,
        points=points,
        p=p_said,
        listed=listed,
        by_seed=lambda pair: by_seed(results, pair),
        outcome_of=outcome_of,
    )
    write_whole(folder / PAGE, text)
    return folder / PAGE


def _draw(plots: Sequence[Plot], folder: Path) -> None:
    """As PNGs; those of an earlier report that this one has not would contradict it."""
    folder.mkdir(exist_ok=True)
    files = {folder / f"{plot.name}.png": plot for plot in plots}
    for earlier in [file for name in FILES for file in folder.glob(name)]:
        if earlier not in files:
            earlier.unlink()
    for file, plot in files.items():
        write_png(plot, file)
