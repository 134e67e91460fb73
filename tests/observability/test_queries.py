"""Two runs in one cluster, a restarted replica, a finished run: panels' own queries on series made by hand.

promtool computes them, from one sample a minute; expected values are worked out here.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from promtool_call import promtool

from deploy.grafana.__main__ import DASHBOARDS
from deploy.grafana.answers import substitute

RANGE = {"__range": "1h", "__rate_interval": "4m"}
RAY = 'SessionName="s", NodeAddress="10.0.0.1"'


def expr(uid: str, title: str, **chosen: str) -> str:
    """The first query of a panel, with variables as chosen, all others at All."""
    board = next(board for board in DASHBOARDS if board.uid == uid)
    panel = next(panel for panel in board.panels if panel.title == title)
    start = {v.name: ".*" if v.several else v.start for v in board.variables}
    return substitute(panel.queries[0].expr, {**start, **RANGE, **chosen})


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    inside = ", ".join([RAY, *(f'{label}="{value}"' for label, value in labels.items())])
    return {"series": f"{name}{{{inside}}}", "values": values}


def sample(value: float, **labels: str) -> dict[str, Any]:
    inside = ", ".join(f'{label}="{v}"' for label, v in labels.items())
    return {"labels": f"{{{inside}}}", "value": value}


@pytest.fixture
def answers(prometheus_programs: dict[str, Path], tmp_path: Path):
    """Holds that a query has these samples at that minute, with the given series."""

    def check(given: list[dict[str, str]], cases: list[tuple[str, int, list[dict[str, Any]]]]) -> None:
        tests = [{"expr": e, "eval_time": f"{minute}m", "exp_samples": wanted} for e, minute, wanted in cases]
        group = {"interval": "1m", "input_series": given, "promql_expr_test": tests}
        (tmp_path / "test.yaml").write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [group]}))
        promtool(prometheus_programs, "test", "rules", "test.yaml", folder=tmp_path)

    return check


def test_two_runs_in_one_cluster_are_two_lines(answers) -> None:
    reward = "ray_rlad_run_reward_mean"
    given = [
        series(reward, "0.25x60", run="a", WorkerId="1"),
        series(reward, "0.75x60", run="b", WorkerId="2"),
    ]
    both = [sample(0.25, run="a"), sample(0.75, run="b")]
    shown = expr("rlad-training-run", "Reward")
    answers(given, [(shown, 10, both), (expr("rlad-training-run", "Reward", run="b"), 10, both[1:])])


def test_a_resumed_run_continues_its_line_and_its_sums(answers) -> None:
    """The learner dies at minute 10 after 100 s in 10 steps and starts anew: 60 s in 5 more."""
    seconds, count = "ray_rlad_stage_seconds_total", "ray_rlad_stage_duration_seconds_count"
    step = {"run": "a", "stage": "step"}
    given = [
        # Its node's agent goes on exporting what a dead process has counted, and drops its gauges.
        series(seconds, "_ 10+10x9 100x50", WorkerId="1", **step),
        series(count, "_ 1+1x9 10x50", WorkerId="1", **step),
        series(seconds, "_x14 12+12x4 60x41", WorkerId="2", **step),
        series(count, "_x14 1+1x4 5x41", WorkerId="2", **step),
        series("ray_rlad_run_step", "_ 1+1x9 stale", run="a", WorkerId="1"),
        series("ray_rlad_run_step", "_x14 9+1x4 13x41", run="a", WorkerId="2"),
    ]
    mean = expr("rlad-training-run", "Length of the steps")
    answers(
        given,
        [
            (mean, 10, [sample(10, run="a")]),
            # (100 + 60) s by (10 + 5) steps; increase() would have left out the first of each process.
            (f"round({mean}, 0.001)", 30, [sample(10.667, run="a")]),
            (expr("rlad-training-run", "Step"), 30, [sample(13, run="a")]),
        ],
    )


def test_what_was_before_the_time_range_is_left_out(answers) -> None:
    wasted = "ray_rlad_run_wasted_tokens_total"
    given = [series(wasted, "100+10x120", run="a", kind="uninformative", WorkerId="1")]
    shown = expr("rlad-training-run", "Tokens sampled in vain")
    labels = {"run": "a", "kind": "uninformative"}
    # In the first half hour all of it, from 0; after two hours what came in the last hour.
    answers(given, [(shown, 30, [sample(400, **labels)]), (shown, 120, [sample(600, **labels)])])


def test_a_restarted_replica_does_not_double_a_gauge(answers) -> None:
    """Replica y takes x's place at minute 10; for a minute both are exported."""
    version = "ray_rlad_run_policy_version"
    labels = {"run": "a", "application": "a-rollout", "deployment": "RolloutService", "rank": "0"}
    given = [
        series(version, "3x10 stale", replica="x", WorkerId="1", **labels),
        series(version, "_x9 4x50", replica="y", WorkerId="2", **labels),
    ]
    shown = expr("rlad-rollout-vllm", "Policy version by replica")
    kept = {"run": "a", "application": "a-rollout", "rank": "0"}
    answers(
        given,
        [(shown, 5, [sample(3, **kept)]), (shown, 10, [sample(4, **kept)]), (shown, 20, [sample(4, **kept)])],
    )


def test_a_finished_run_stays_in_its_time_range(answers) -> None:
    """It ends at minute 20: its lines end there, and its totals stay while the range holds it."""
    given = [
        series("ray_rlad_run_reward_mean", "0.5x20 stale", run="a", WorkerId="1"),
        series("ray_rlad_stage_seconds_total", "0+6x20 stale", run="a", stage="update", WorkerId="1"),
        series(
            "ray_rlad_stage_duration_seconds_count", "0+2x20 stale", run="a", stage="update", WorkerId="1"
        ),
        series("ray_rlad_run_reward_mean", "0.1x60", run="b", WorkerId="2"),
    ]
    mean = expr("rlad-training-run", "Mean length of a stage")
    reward = expr("rlad-training-run", "Reward")
    answers(
        given,
        [
            (reward, 20, [sample(0.5, run="a"), sample(0.1, run="b")]),
            (reward, 30, [sample(0.1, run="b")]),
            (mean, 60, [sample(3, run="a", stage="update")]),
        ],
    )


def test_two_teachers_of_one_run_are_told_apart(answers) -> None:
    requests = "ray_rlad_service_requests_total"
    labels = {"run": "a", "service": "teacher", "deployment": "TeacherService", "kind": "handle"}
    given = [
        series(requests, "0+60x30", application="a-teacher-logic", WorkerId="1", **labels),
        series(requests, "0+120x30", application="a-teacher-math", WorkerId="2", **labels),
    ]
    one = {"run": "a", "application": "a-teacher-logic", "kind": "handle"}
    other = {"run": "a", "application": "a-teacher-math", "kind": "handle"}
    answers(
        given,
        [
            (expr("rlad-teacher-scoring", "Calls"), 20, [sample(1, **one), sample(2, **other)]),
            (expr("rlad-teacher-scoring", "Calls", application="a-teacher-math"), 20, [sample(2, **other)]),
        ],
    )


def test_serve_s_series_are_told_apart_by_run(answers) -> None:
    """Serve does not know runs: whose an application is, its calls tell; one without a call is left in."""
    queued, labels = "ray_serve_deployment_queued_queries", {"deployment": "TeacherService"}
    given = [
        *(
            series(queued, values, application=application, handle=handle, **labels)
            for application, handle, values in (
                ("a-teacher", "x", "3x60"),
                ("a-teacher", "y", "4x60"),
                ("b-teacher", "z", "5x60"),
                ("teacher", "w", "6x60"),
            )
        ),
        *(
            series(
                "ray_rlad_service_requests_total",
                values,
                run=run,
                application=application,
                service="teacher",
                kind="handle",
                WorkerId=application,
                **labels,
            )
            for run, application, values in (
                ("a", "a-teacher", "_x20 1x40"),
                ("b", "b-teacher", "1x60"),
                ("shared", "teacher", "1x60"),
            )
        ),
    ]
    for uid, kept in (("rlad-teacher-scoring", {}), ("rlad-cluster-services", labels)):
        a, b, shared = (
            sample(value, application=application, **kept)
            for application, value in (("a-teacher", 7), ("b-teacher", 5), ("teacher", 6))
        )
        panel = "Waiting for a replica"
        answers(
            given,
            [
                (expr(uid, panel), 30, [a, b, shared]),
                (expr(uid, panel, run="a"), 30, [a]),
                (expr(uid, panel, run="a"), 10, [a]),  # before its first call
                (expr(uid, panel, run="b"), 30, [b]),
                (expr(uid, panel, run="b"), 10, [a, b]),
                (expr(uid, panel, run="a|shared"), 30, [a, shared]),
            ],
        )


def test_nodes_of_all_types_are_counted(answers) -> None:
    nodes = "ray_cluster_active_nodes"
    given = [
        series(nodes, "1x60", node_type="headgroup", instance="head"),
        series(nodes, "4x60", node_type="rollout", instance="head"),
        # The head was started again: for a moment there are two that count.
        series(nodes, "4x10", node_type="rollout", instance="last-head"),
    ]
    shown = expr("rlad-cluster-services", "Nodes")
    five = [sample(5, SessionName="s")]
    answers(given, [(shown, 5, five), (shown, 30, five)])


def test_a_restart_is_marked_once(answers) -> None:
    """The learner of run a begins at minute 4, and its successor at minute 19; run b begins at minute 9."""
    step = "ray_rlad_run_step"
    given = [
        series(step, "_x4 1+1x9 stale", run="a", WorkerId="1"),
        series(step, "_x19 9+1x40", run="a", WorkerId="2"),
        series(step, "_x9 1+1x50", run="b", WorkerId="3"),
    ]
    board = next(board for board in DASHBOARDS if board.uid == "rlad-training-run")
    [restart] = [each for each in board.annotations if each.name == "Restart"]
    expr = substitute(restart.expr, {"run": ".*", **RANGE})
    answers(given, [(expr, 5, []), (expr, 10, []), (expr, 19, [sample(1, run="a")]), (expr, 22, [])])


def test_a_checkpoint_is_marked_when_it_is_written(answers) -> None:
    items = "ray_rlad_stage_items_total"
    given = [series(items, "_x4 1x10 2x40", run="a", stage="checkpoint", WorkerId="1")]
    board = next(board for board in DASHBOARDS if board.uid == "rlad-training-run")
    [mark] = [each for each in board.annotations if each.name == "Checkpoint"]
    expr = substitute(mark.expr, {"run": ".*", **RANGE})
    answers(given, [(expr, 4, [sample(1, run="a")]), (expr, 10, []), (expr, 15, [sample(1, run="a")])])
