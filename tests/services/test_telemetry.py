"""Telemetry: what a span leaves behind, scraped from prometheus_client and from a real Ray node."""

import asyncio
import io
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import prometheus_client
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from recording import recording_into

from rlad_core import metrics
from rlad_core.config import load
from rlad_core.metric_specs import LABELS, SHARED, StepStage
from rlad_core.timeline import StageSpan, stage_table
from services.base import telemetry
from services.base.log_lines import configure_logging
from services.base.span_collector import SpanCollector
from services.base.telemetry import name_run, span
from services.learner.step_metrics import forget_steps, record_step, record_teacher_cost

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def log_lines(tmp_path: Path) -> Iterator[Path]:
    """Each test logs into its own folder, and names its run after itself."""
    configure_logging(tmp_path)
    yield tmp_path / "log.jsonl"
    configure_logging(None)
    structlog.reset_defaults()
    name_run(SHARED)


@pytest.fixture
def registry() -> Iterator[prometheus_client.CollectorRegistry]:
    own = prometheus_client.CollectorRegistry()
    with recording_into(own):
        yield own


def parse(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def scraped(registry: prometheus_client.CollectorRegistry) -> Samples:
    return parse(prometheus_client.generate_latest(registry).decode())


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestSpan:
    def test_everything_follows_from_one_span(
        self, registry: prometheus_client.CollectorRegistry, log_lines: Path
    ) -> None:
        name_run("demo")
        collector = SpanCollector()
        started = time.time()
        with span("teacher", items=3, step=7) as work:
            inside = scraped(registry)
            work.tokens = 40
            time.sleep(0.02)
        labels = {"run": "demo", "stage": "teacher"}
        found = scraped(registry)
        assert inside[key("rlad_stage_in_flight", **labels)] == 1
        assert found[key("rlad_stage_in_flight", **labels)] == 0
        assert found[key("rlad_stage_items_total", **labels)] == 3
        assert found[key("rlad_stage_tokens_total", **labels)] == 40
        assert found[key("rlad_stage_duration_seconds_count", **labels)] == 1
        assert found[key("rlad_stage_seconds_total", **labels)] == work.seconds >= 0.02
        assert found[key("rlad_stage_duration_seconds_bucket", le="0.015", **labels)] == 0
        assert found[key("rlad_stage_duration_seconds_bucket", le="+Inf", **labels)] == 1

        [line] = lines(log_lines)
        assert (
            line.items() >= {"event": "stage", "level": "info", "items": 3, "tokens": 40, "step": 7}.items()
        )
        assert line.items() >= labels.items()
        assert line["seconds"] == pytest.approx(work.seconds, abs=1e-6)

        [done] = collector.take()
        assert (done.stage, done.items, done.tokens, done.failed) == ("teacher", 3, 40, False)
        assert done.start == pytest.approx(started, abs=0.5)
        assert done.end - done.start == pytest.approx(work.seconds, abs=1e-5)
        assert collector.take() == []
        collector.close()

    def test_an_exception_is_counted_logged_and_passes(
        self, registry: prometheus_client.CollectorRegistry, log_lines: Path
    ) -> None:
        collector = SpanCollector()
        with pytest.raises(TimeoutError, match="no answer"), span("verify", items=5):
            raise TimeoutError("no answer")
        labels = {"run": SHARED, "stage": "verify"}
        found = scraped(registry)
        assert found[key("rlad_stage_errors_total", kind="TimeoutError", **labels)] == 1
        assert found[key("rlad_stage_duration_seconds_count", **labels)] == 1
        assert found[key("rlad_stage_in_flight", **labels)] == 0
        assert key("rlad_stage_items_total", **labels) not in found
        [line] = lines(log_lines)
        assert (line["event"], line["kind"], line["error"]) == ("stage_failed", "TimeoutError", "no answer")
        assert [(s.failed, s.items) for s in collector.take()] == [(True, 0)]
        collector.close()

    def test_spans_side_by_side_give_the_stage_table(
        self, registry: prometheus_client.CollectorRegistry
    ) -> None:
        async def work(stage: StepStage, after: float, seconds: float) -> None:
            await asyncio.sleep(after)
            async with span(stage, items=1):
                await asyncio.sleep(seconds)

        async def step() -> None:
            async with span("step"):
                await asyncio.gather(
                    work("rollout", 0, 0.2), work("rollout", 0, 0.1), work("teacher", 0.1, 0.2)
                )

        collector = SpanCollector()
        asyncio.run(step())
        spans = collector.take()
        collector.close()
        [whole] = [s for s in spans if s.stage == "step"]
        table = {row.stage: row for row in stage_table(spans, whole.start, whole.end)}
        # A busy machine only makes them longer.
        lengths = sum(span.end - span.start for span in spans if span.stage == "rollout")
        assert lengths >= 0.299
        assert 0.199 <= table["rollout"].wall_seconds < lengths
        assert table["teacher"].hidden_seconds > 0
        assert sum(row.share for row in table.values()) == pytest.approx(1)
        seconds = scraped(registry)[key("rlad_stage_seconds_total", run=SHARED, stage="rollout")]
        assert seconds == pytest.approx(lengths, abs=1e-5)

    def test_threads_do_not_lose_counts(self, registry: prometheus_client.CollectorRegistry) -> None:
        def many() -> None:
            for _ in range(50):
                with span("verify", items=2):
                    pass

        threads = [threading.Thread(target=many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        found = scraped(registry)
        assert found[key("rlad_stage_items_total", run=SHARED, stage="verify")] == 400
        assert found[key("rlad_stage_in_flight", run=SHARED, stage="verify")] == 0

    def test_an_unknown_stage_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'lunch' is not a stage; stages are rollout, reference"):
            span("lunch")  # type: ignore[arg-type]


class TestRecording:
    def test_labels_and_kinds_are_checked(self, registry: prometheus_client.CollectorRegistry) -> None:
        telemetry.gauge(metrics.RUN_POLICY_VERSION, 4, rank="0")
        telemetry.count(metrics.RUN_DROPPED_GROUPS, 0, kind="stale")
        assert scraped(registry) == {key("rlad_run_policy_version", run=SHARED, rank="0"): 4.0}
        with pytest.raises(ValueError, match=r"rlad_run_policy_version has the labels .* got \['run'\]"):
            telemetry.gauge(metrics.RUN_POLICY_VERSION, 4)
        with pytest.raises(ValueError, match="rlad_run_reward_mean is a gauge, not a counter"):
            telemetry.count(metrics.RUN_REWARD)
        with pytest.raises(ValueError, match="cannot rise by -1"):
            telemetry.count(metrics.RUN_DROPPED_GROUPS, -1, kind="stale")

    def test_every_declared_metric_can_be_scraped(
        self, registry: prometheus_client.CollectorRegistry
    ) -> None:
        record_everything("all")
        names = {name for name, _ in scraped(registry)}
        for spec in metrics.METRICS.values():
            assert (spec.name if spec.kind != "histogram" else f"{spec.name}_sum") in names

    def test_a_service_call(self, registry: prometheus_client.CollectorRegistry) -> None:
        with telemetry.request("teacher", "arrow"), telemetry.phase("teacher", "engine"):
            time.sleep(0.01)
        with pytest.raises(KeyError), telemetry.request("teacher", "json"):
            raise KeyError("model")
        common = {"run": SHARED, "service": "teacher"}
        found = scraped(registry)
        assert found[key("rlad_service_requests_total", kind="arrow", **common)] == 1
        assert found[key("rlad_service_errors_total", kind="KeyError", **common)] == 1
        assert found[key("rlad_service_request_duration_seconds_count", **common)] == 2
        assert found[key("rlad_service_phase_seconds_total", phase="engine", **common)] >= 0.01
        assert found[key("rlad_service_in_flight", **common)] == 0

    def test_phases_that_follow_each_other(self, registry: prometheus_client.CollectorRegistry) -> None:
        with telemetry.phase("teacher", "queue") as phase:
            time.sleep(0.01)
            phase.change("engine")
        found = scraped(registry)
        common = {"run": SHARED, "service": "teacher"}
        assert found[key("rlad_service_phase_seconds_total", phase="queue", **common)] >= 0.01
        assert found[key("rlad_service_phase_seconds_total", phase="engine", **common)] < 0.01
        for phase_name in ("queue", "engine"):
            counted = key("rlad_service_phase_duration_seconds_count", phase=phase_name, **common)
            assert found[counted] == 1

    def test_what_waits(self, registry: prometheus_client.CollectorRegistry) -> None:
        telemetry.waiting("assemble", 8)
        telemetry.waiting("assemble", -3)
        telemetry.waiting("update", 2)
        found = scraped(registry)
        assert found[key("rlad_stage_queue_length", run=SHARED, stage="assemble")] == 5
        assert found[key("rlad_stage_queue_length", run=SHARED, stage="update")] == 2


class TestStep:
    NUMBERS: ClassVar = {"reward_mean": 0.5, "tokens": 100, "trained_tokens": 60, "dropped_groups": 2}
    SPANS: ClassVar = [StageSpan("rollout", 0, 3), StageSpan("teacher", 2, 4), StageSpan("update", 4, 9)]

    def test_its_metrics(self, registry: prometheus_client.CollectorRegistry) -> None:
        record_step(7, self.NUMBERS, stage_table(self.SPANS, 0, 10), seconds=10, supervised=False)
        found = scraped(registry)
        assert found[key("rlad_run_step", run=SHARED)] == 7
        assert found[key("rlad_run_reward_mean", run=SHARED)] == 0.5
        assert found[key("rlad_run_tokens_per_second", run=SHARED)] == 6
        assert found[key("rlad_run_teacher_hidden_seconds", run=SHARED)] == 1
        shares = {"rollout": 0.3, "teacher": 0.1, "update": 0.5, "idle": 0.1, "verify": 0, "weight_sync": 0}
        for stage, share in shares.items():
            shown = found[key("rlad_run_stage_share_ratio", run=SHARED, stage=stage)]
            assert shown == pytest.approx(share)
        uninformative = {"run": SHARED, "kind": "uninformative"}
        assert found[key("rlad_run_wasted_tokens_total", **uninformative)] == 40
        assert found[key("rlad_run_dropped_groups_total", **uninformative)] == 2

    def test_with_older_tokens_the_mismatch_is_that_of_the_newest_version(
        self, registry: prometheus_client.CollectorRegistry
    ) -> None:
        ages = {"mismatch": 0.3, "token_share_at_age_0": 0.1, "mismatch_at_age_0": 0.01}
        shown = key("rlad_run_mismatch_nats", run=SHARED)
        for numbers, wanted in (
            ({"mismatch": 0.25}, 0.25),
            ({**ages, "empty_mini_batches": 2}, 0.01),
            ({"mismatch": 0.3, "token_share_at_age_0": 0.0}, 0.01),  # none is of it: as it was
        ):
            record_step(7, {**self.NUMBERS, **numbers}, [], seconds=10, supervised=False)
            assert scraped(registry)[shown] == wanted
        assert scraped(registry)[key("rlad_run_empty_mini_batches_total", run=SHARED)] == 2
        forget_steps()
        assert shown not in scraped(registry)

    def test_what_a_teacher_elsewhere_takes_is_not_told_as_nothing(
        self, registry: prometheus_client.CollectorRegistry
    ) -> None:
        elsewhere = load("kk-tiny-trrd", ["teacher={kind: http, url: 'http://teacher:8000'}"])
        record_teacher_cost(elsewhere.teacher_devices[1], 2.0, 60)
        cost = key("rlad_run_teacher_cost_seconds", run=SHARED)
        assert cost not in scraped(registry)
        served = load("kk-tiny-trrd", ["teacher.threads=3"])
        assert served.teacher_devices == ("core", 3)
        record_teacher_cost(served.teacher_devices[1], 2.0, 60)
        assert scraped(registry)[cost] == pytest.approx(1000 * 3 * 2 / 60)
        record_teacher_cost(served.teacher_devices[1], 0.0, 60)  # it had scored all of it before
        assert scraped(registry)[cost] == 0

    def test_another_stage_of_the_recipe_does_not_keep_the_last_one_s_numbers(
        self, registry: prometheus_client.CollectorRegistry
    ) -> None:
        record_step(1, self.NUMBERS, stage_table(self.SPANS, 0, 10), seconds=10, supervised=False)
        forget_steps()
        record_step(2, {"trained_tokens": 50}, stage_table(self.SPANS, 0, 10), seconds=5, supervised=True)
        found = scraped(registry)
        assert found[key("rlad_run_step", run=SHARED)] == 2
        assert key("rlad_run_reward_mean", run=SHARED) not in found

    def test_a_stage_that_the_next_step_does_without_is_zero(
        self, registry: prometheus_client.CollectorRegistry
    ) -> None:
        record_step(1, self.NUMBERS, stage_table(self.SPANS, 0, 10), seconds=10, supervised=False)
        # Worked solutions of the task itself: nothing was sampled.
        table = stage_table([StageSpan("update", 0, 5)], 0, 5)
        record_step(2, {"trained_tokens": 50}, table, seconds=5, supervised=True)
        found = scraped(registry)
        assert found[key("rlad_run_stage_share_ratio", run=SHARED, stage="teacher")] == 0
        assert found[key("rlad_run_teacher_hidden_seconds", run=SHARED)] == 0
        assert key("rlad_run_wasted_tokens_total", run=SHARED, kind="rejected") not in found


class TestLog:
    def test_a_bound_request_id_is_on_the_line(self, log_lines: Path) -> None:
        with structlog.contextvars.bound_contextvars(request_id="r-1"):
            telemetry.log("scored", sequences=2)
        [line] = lines(log_lines)
        assert line.items() >= {"event": "scored", "request_id": "r-1", "run": SHARED, "sequences": 2}.items()

    def test_without_a_run_lines_go_to_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging(None)
        telemetry.log("here")
        captured = capsys.readouterr()
        assert json.loads(captured.err)["event"] == "here"
        assert captured.out == ""

    def test_a_stderr_that_was_put_aside_is_not_written_to_again(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with io.StringIO() as aside, monkeypatch.context() as meanwhile:
            meanwhile.setattr(sys, "stderr", aside)
            configure_logging(None)
            telemetry.log("there")
        telemetry.log("here")
        assert json.loads(capsys.readouterr().err)["event"] == "here"

    def test_half_a_character_ends_nothing(self, log_lines: Path) -> None:
        """As in the name of a file that is no UTF-8, which an error tells."""
        with pytest.raises(OSError, match="no such file"), telemetry.span("verify"):
            raise OSError("no such file: \udcff.txt")
        [line] = lines(log_lines)
        assert line["error"] == "no such file: \udcff.txt"

    def test_a_full_disk_ends_nothing(
        self, log_lines: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Path("/dev/full").open("ab", buffering=0) as full:
            monkeypatch.setattr(Path, "open", lambda *_, **__: full)
            configure_logging(log_lines.parent)
            telemetry.log("scored", sequences=2)
        assert "No space left on device" in capsys.readouterr().err


def record_everything(run: str) -> None:
    """One value for each declared metric: 2 for gauges and counters, 0.5 for histograms."""
    for spec in metrics.METRICS.values():
        labels = {label: run if label == "run" else "x" for label in spec.labels}
        if spec.kind == "counter":
            telemetry.count(spec, 2, **labels)
        elif spec.kind == "gauge":
            telemetry.gauge(spec, 2, **labels)
        else:
            telemetry.observe(spec, 0.5, **labels)


@pytest.mark.slow
def test_a_ray_node_exports_the_same_declarations(ray_cluster: None) -> None:
    """Driver and actor record; the node's metrics port shows both, under the declared names and ``ray_``."""
    import ray

    @ray.remote(num_cpus=0)
    class Worker:
        def score(self) -> float:
            name_run("of an actor")
            with span("teacher", items=3, tokens=9) as work:
                time.sleep(0.05)
            return work.seconds

    record_everything("of the driver")
    worker = Worker.remote()
    seconds = ray.get(worker.score.remote(), timeout=60)
    theirs = {"run": "of an actor", "stage": "teacher"}
    wanted = {
        key("ray_rlad_stage_items_total", **theirs),
        key("ray_rlad_run_reward_mean", run="of the driver"),
    }
    found = scrape_ray(ray.nodes()[0]["MetricsExportPort"], wanted, limit_s=60)
    assert found[key("ray_rlad_stage_items_total", **theirs)] == 3
    assert found[key("ray_rlad_stage_tokens_total", **theirs)] == 9
    assert found[key("ray_rlad_stage_seconds_total", **theirs)] == pytest.approx(seconds)
    assert found[key("ray_rlad_stage_duration_seconds_count", **theirs)] == 1
    assert found[key("ray_rlad_stage_in_flight", **theirs)] == 0
    names = {name for name, labels in found if ("run", "of the driver") in labels}
    for spec in metrics.METRICS.values():
        assert f"ray_{spec.name}{'_count' if spec.kind == 'histogram' else ''}" in names
    ray.kill(worker)


def scrape_ray(port: int, wanted: set[tuple[str, frozenset[tuple[str, str]]]], limit_s: float) -> Samples:
    """Our metrics from a node's port, without Ray's own labels, once all `wanted` are there."""
    ours = set(LABELS) | {"le"}
    deadline = time.monotonic() + limit_s
    found: Samples = {}
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            samples = parse(answer.read().decode())
        found = {
            (name, frozenset((k, v) for k, v in labels if k in ours)): value
            for (name, labels), value in samples.items()
            if name.startswith("ray_rlad_")
        }
        if wanted <= set(found):
            return found
        time.sleep(0.5)
    raise AssertionError(f"after {limit_s} s the metrics port {port} lacks {wanted - set(found)}")
