"""One command for all: a tiny training, scraped; every panel's queries on it; a table and a picture of each.

    python -m deploy.grafana.prove --out /tmp/proof

It leaves ``panels.md`` (panel -> series -> value) and a PNG of every dashboard. It fails if a query fails,
lacks data that the run should have, or draws a quantile that lies in its histogram's first or last bucket.
Afterwards ``--again`` asks and draws anew without a training.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from deploy.grafana.__main__ import DASHBOARDS
from deploy.grafana.answers import Answer, View, ask
from deploy.grafana.artefacts import artefacts
from deploy.grafana.drawing import draw, said
from deploy.grafana.model import Panel
from deploy.grafana.promql import exported
from deploy.grafana.variables import PERCENTILE
from deploy.prometheus.server import Prometheus, serving
from rlad_core import metrics

RUN = "tiny"
RUN_LIMIT_S = 3600.0
#: Ray hands its numbers on so often; by default every 10 s, which leaves few points of a short run.
REPORTING = {"RAY_metrics_report_interval_ms": "4000"}
SETTINGS = (
    "stages.0.steps=20",
    "learner.warmup_steps=0",
    "learner.checkpoint_every=5",
    "evaluation.every=5",
    "rollout.prompts_per_step=8",
    "task.evaluation.count=20",
    "telemetry.linger_s=12",
)


def empty_queries(answers: Iterable[tuple[Panel, list[Answer]]]) -> list[str]:
    """Queries without data that a healthy run fills: panel, and legend."""
    return [
        f"{panel.title}: {answer.query.legend}"
        for panel, of_panel in answers
        for answer in of_panel
        if not answer.query.empty_when_well and not answer.series
    ]


def table(dashboard: str, answers: Iterable[tuple[Panel, list[Answer]]]) -> Iterator[str]:
    """Markdown lines: panel, series, and the last value."""
    yield from (
        "",
        f"## {dashboard}",
        "",
        "| panel | series | points | last value |",
        "| --- | --- | --- | --- |",
    )
    for panel, of_panel in answers:
        for answer in of_panel:
            legend = answer.query.legend
            for name, one in answer.series:
                value = said(panel, one.points[-1][1])
                what = ", ".join(one.labels.values()) + f" {legend}" if panel.kind == "table" else name
                yield f"| {panel.title} | {what} | {len(one.points)} | {value} |"
            if not answer.series:
                why = answer.query.empty_when_well or "MISSING"
                yield f"| {panel.title} | {legend}, no data: {why} | | |"


def look(prometheus: Prometheus, view: View, out: Path) -> list[str]:
    """Ask, tabulate and draw all dashboards; what is wrong: queries without data, quantiles that are none."""
    lit = replace(view, start_s=_first_stage(prometheus, view))
    told = "Values at the end of its time range, as `python -m deploy.grafana.prove` found them."
    lines, wrong = ["# Panels of a tiny run", "", told], []
    for dashboard in DASHBOARDS:
        by_title = ask(prometheus, dashboard, view)
        answers = [(panel, by_title[panel.title]) for panel in dashboard.panels]
        lines += (line.replace("$percentile", PERCENTILE.start) for line in table(dashboard.title, answers))
        wrong += [f"{dashboard.title}: no data: {query}" for query in empty_queries(answers)]
        wrong += [f"{dashboard.title}: no quantile: {one}" for one in artefacts(prometheus, answers, view)]
        draw(dashboard, by_title, lit, out / f"{dashboard.uid}.png")
    (out / "panels.md").write_text("\n".join(lines) + "\n")
    return wrong


def _first_stage(prometheus: Prometheus, view: View) -> float:
    """When the first stage began: what was before would leave the pictures empty."""
    found = prometheus.over(exported(metrics.STAGE_IN_FLIGHT), view.start_s, view.end_s, view.step_s)
    return min((one.points[0][0] for one in found), default=view.start_s)


def train(out: Path, more: Iterable[str]) -> None:
    """Run the tiny recipe; its record is in ``out/runs``, and what it printed in ``out/run.log``."""
    settings = (*SETTINGS, f"name={RUN}", f"output.dir={out / 'runs'}", *more)
    command = [sys.executable, "-m", "services", "run", "kk-tiny-trrd"]
    with (out / "run.log").open("w") as log:
        subprocess.run(
            [*command, *(part for setting in settings for part in ("--set", setting))],
            env={**os.environ, **REPORTING},
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=RUN_LIMIT_S,
            check=True,
        )


def main() -> int:
    """The command; how much is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is left")
    parser.add_argument("--again", action="store_true", help="no training: look at what is in --out")
    parser.add_argument("--set", action="append", default=[], help="more settings of the run")
    args = parser.parse_args()
    out: Path = args.out.absolute()
    out.mkdir(parents=True, exist_ok=args.again)
    span = out / "span.json"
    with serving(out / "prometheus", announcements=str(out / "runs" / "scrape-*.json")) as prometheus:
        if not args.again:
            start = time.time()
            train(out, args.set)
            span.write_text(json.dumps([start, time.time()]))
        start, end = json.loads(span.read_text())
        wrong = look(prometheus, View(start, end), out)
    print(f"table: {out / 'panels.md'}; pictures: {out}/*.png")
    for each in wrong:
        print(each)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
