"""The finished run as Prometheus saw it: every panel's queries, the rules, and whether the numbers agree."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.grafana.__main__ import DASHBOARDS
from deploy.grafana.answers import Answer, View, ask, choices
from deploy.grafana.artefacts import artefacts
from deploy.grafana.foreign import SEEN
from deploy.grafana.promql import exported
from deploy.grafana.prove import empty_queries
from deploy.prometheus.server import Prometheus
from rlad_core import metrics
from rlad_core.metric_specs import DURATION_BUCKETS, STAGES
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
    metrics.RUN_STALE_MASKED: "strictly on-policy no token is too old",
    metrics.RUN_EMPTY_MINI_BATCHES: "every mini-batch has tokens that count",
}
#: Stages with one span a step, those with one on each rank, and those with one for each group, side by side.
ALONE = ("assemble", "step")
ON_EACH_RANK = ("old_logprobs", "update")
SIDE_BY_SIDE = ("rollout", "teacher", "verify")
GROUPS = 6  # rollout.prompts_per_step in runs.py
RANKS = 2


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


def test_a_gauge_that_was_set_once_stays(seen: tuple[Prometheus, View]) -> None:
    """The plan is told before the first step, and the agent drops what is not said again."""
    prometheus, view = seen
    planned, steps = (
        prometheus.over(f"max({expr})", view.start_s, view.end_s, 1.0)[0].points
        for expr in (
            f'{exported(metrics.RUN_PLANNED_MEMORY)}{{role="learner"}}',
            exported(metrics.RUN_STEP),
        )
    )
    first, last = steps[0][0], steps[-1][0]
    assert sum(first <= time <= last for time, _ in planned) > (last - first) / 2


def test_what_the_dashboards_take_from_others_is_there(seen: tuple[Prometheus, View]) -> None:
    found = names(seen[0])
    assert {name for name in SEEN if not found & {name, f"{name}_bucket"}} == set()


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
@pytest.mark.parametrize("later_s", [0.0, LATER_S], ids=["at its end", "later"])
def test_every_panel_has_data_and_none_an_artefact(
    seen: tuple[Prometheus, View], board, later_s: float
) -> None:
    prometheus, view = seen
    view = View(view.start_s, view.end_s + later_s)
    by_title = ask(prometheus, board, view)
    answers = [(panel, by_title[panel.title]) for panel in board.panels]
    assert empty_queries(answers) == []
    assert list(artefacts(prometheus, answers, view)) == []


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_variables_offer_the_run_and_what_is_its(
    seen: tuple[Prometheus, View], finished_run: tuple[Path, str], board
) -> None:
    prometheus, view = seen
    name = finished_run[0].name
    offered = choices(prometheus, board, view)
    assert all(offered.values()), offered
    assert offered["run"] == [name]
    if "application" in offered:
        of_a_kind = {
            "rlad-teacher-scoring": ["reference", "teacher"],
            "rlad-rollout-vllm": ["demonstrator", "rollout"],
        }
        services = of_a_kind.get(board.uid, ["demonstrator", "reference", "rollout", "teacher", "verifier"])
        assert offered["application"] == [f"{name}-{service}" for service in services]
        of_another = choices(prometheus, board, View(view.start_s, view.end_s, {"run": "another"}))
        assert (of_another["application"], of_another["deployment"]) == ([], [])


def test_no_rule_fails_and_no_alert_fires(seen: tuple[Prometheus, View]) -> None:
    prometheus, view = seen
    all_rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in all_rules} == {"ok"}
    assert prometheus.over("ALERTS{alertstate='firing'}", view.start_s, view.end_s, view.step_s) == []


def test_latencies_agree_with_the_run_s_stage_table(
    seen: tuple[Prometheus, View], finished_run: tuple[Path, str]
) -> None:
    """Exact seconds of every stage in the table; of those with one span a step mean and median too."""
    run_dir, _ = finished_run
    table = [row["seconds"] for row in rows(run_dir / "metrics.jsonl")]
    recorded = {stage: [row[stage] for row in table if stage in row] for stage in STAGES if stage in table[0]}
    means = _by_stage(panels(seen)["Mean length of a stage"][0])
    medians = _by_stage(panels(seen)["Latency by percentile"][0])
    # The reference of this run sleeps while the learner works.
    assert {*SIDE_BY_SIDE, *ALONE, *ON_EACH_RANK, "sleep", "weight_sync"} == recorded.keys()
    totals = _totals(seen)
    for stage, seconds in recorded.items():
        if stage in (*ALONE, *ON_EACH_RANK):
            mean = math.fsum(seconds) / len(seconds)
            # The table has the time in which it was open on any rank, of which the others may have a part.
            least = mean / RANKS if stage in ON_EACH_RANK else mean
            assert 0.9 * least <= means[stage] <= 1.1 * mean, stage
            low, high = _bucket(min(seconds) * least / mean)[0], _bucket(max(seconds))[1]
            assert low <= medians[stage] <= high, stage
        elif stage in SIDE_BY_SIDE:
            # The table has the time in which any span was open, the counter each span's; groups are its most.
            assert 0.9 * math.fsum(seconds) <= totals[stage] <= 1.1 * GROUPS * math.fsum(seconds), stage
        else:  # the first policy is handed over, and all are woken, before the first step
            assert 0.9 * math.fsum(seconds) <= totals[stage], stage


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


def _by_stage(answer: Answer) -> dict[str, float]:
    return {one.labels["stage"]: one.points[-1][1] for _, one in answer.series}


def _totals(seen: tuple[Prometheus, View]) -> dict[str, float]:
    """Exact seconds of each stage in the whole run."""
    prometheus, view = seen
    expr = (
        f"sum by (stage) (max_over_time({exported(metrics.STAGE_SECONDS)}[{view.end_s - view.start_s:.0f}s]))"
    )
    return {one.labels["stage"]: one.points[-1][1] for one in prometheus.at(expr, view.end_s)}


def _bucket(seconds: float, bounds: Sequence[float] = DURATION_BUCKETS) -> tuple[float, float]:
    """The histogram's bucket of a length."""
    place = bisect_left(bounds, seconds)
    return (bounds[place - 1] if place else 0.0), bounds[place]


def panels(seen: tuple[Prometheus, View]) -> dict[str, list[Answer]]:
    return ask(seen[0], DASHBOARDS[0], seen[1])
