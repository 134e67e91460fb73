"""The finished run as Prometheus saw it: every panel's queries, the rules, and whether the numbers agree."""

import math
from pathlib import Path

import pytest

from deploy.grafana.__main__ import DASHBOARDS
from deploy.grafana.answers import Answer, View, ask
from deploy.grafana.foreign import SEEN
from deploy.grafana.promql import exported
from deploy.grafana.prove import empty_panels
from deploy.prometheus.server import Prometheus
from rlad_core import metrics
from runs import rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

#: A series ends five minutes after its last scrape; a run that is over is looked at later than that.
LATER_S = 600.0
#: What a healthy run on this cluster never records, and why.
NOT_IN_A_HEALTHY_RUN = {
    metrics.STAGE_ERRORS: "nothing fails",
    metrics.SERVICE_ERRORS: "nothing fails",
    metrics.SERVICE_LIMITS: "nothing is refused",
    metrics.RUN_DROPPED_GROUPS: "it depends on the seed whether a group is uninformative",
    metrics.RUN_WASTED_TOKENS: "it depends on the seed whether a group is uninformative",
}


@pytest.fixture(scope="module")
def seen(
    prometheus_programs: dict[str, Path], prometheus: Prometheus, finished_run: tuple[Path, str]
) -> tuple[Prometheus, View]:
    """Prometheus after the run, and the time that the run took."""
    run_dir, _ = finished_run
    first, last = (run_dir / "recipe.yaml").stat().st_mtime, (run_dir / "report.html").stat().st_mtime
    return prometheus, View(first, last)


def names(prometheus: Prometheus) -> set[str]:
    return set(prometheus.get("label/__name__/values"))


def test_every_declared_metric_was_scraped(seen: tuple[Prometheus, View]) -> None:
    found = names(seen[0])
    missing = {
        spec.name
        for spec in metrics.METRICS.values()
        if not any(exported(spec) + suffix in found for suffix in ("", "_count"))
    }
    assert missing <= {spec.name for spec in NOT_IN_A_HEALTHY_RUN}


def test_what_the_dashboards_take_from_others_is_there(seen: tuple[Prometheus, View]) -> None:
    found = names(seen[0])
    assert {name for name in SEEN if not found & {name, f"{name}_bucket"}} == set()


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
@pytest.mark.parametrize("later_s", [0.0, LATER_S], ids=["at its end", "later"])
def test_every_panel_has_data(seen: tuple[Prometheus, View], board, later_s: float) -> None:
    prometheus, view = seen
    by_title = ask(prometheus, board, View(view.start_s, view.end_s + later_s))
    assert empty_panels((panel, by_title[panel.title]) for panel in board.panels) == []


def test_no_rule_fails_and_no_alert_fires(seen: tuple[Prometheus, View]) -> None:
    prometheus, view = seen
    all_rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in all_rules} == {"ok"}
    assert prometheus.over("ALERTS{alertstate='firing'}", view.start_s, view.end_s, view.step_s) == []


def test_latencies_agree_with_the_run_s_stage_table(
    seen: tuple[Prometheus, View], finished_run: tuple[Path, str]
) -> None:
    """Where one span is all that a stage does in a step, its mean is that of the table."""
    run_dir, _ = finished_run
    table = [row["seconds"] for row in rows(run_dir / "metrics.jsonl")]
    panel = panels(seen)["Mean length of a stage"]
    shown = {one.labels["stage"]: one.points[-1][1] for answer in panel for _, one in answer.series}
    for stage in ("assemble", "old_logprobs", "update", "step"):
        recorded = [row[stage] for row in table if stage in row]
        assert shown[stage] == pytest.approx(math.fsum(recorded) / len(recorded), rel=0.1), stage


def test_the_last_step_s_shares_are_those_of_its_record(
    seen: tuple[Prometheus, View], finished_run: tuple[Path, str]
) -> None:
    run_dir, _ = finished_run
    last = rows(run_dir / "metrics.jsonl")[-1]
    boards = panels(seen)
    shown = {
        one.labels["stage"]: one.points[-1][1] for a in boards["Share of the step"] for _, one in a.series
    }
    recorded = {stage: share for stage, share in last["shares"].items() if stage in shown}
    assert recorded == pytest.approx({stage: shown[stage] for stage in recorded}, abs=1e-6)
    assert sum(shown.values()) == pytest.approx(1, abs=1e-6)
    ((_, hidden),) = boards["Time of the teacher hidden behind rollouts"][0].series
    assert hidden.points[-1][1] == pytest.approx(last["teacher_hidden_seconds"])


def panels(seen: tuple[Prometheus, View]) -> dict[str, list[Answer]]:
    return ask(seen[0], DASHBOARDS[0], seen[1])
