"""Spans of several processes as one trace: a file of OTLP lines, or a collector; and the page that shows a
step."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from recording import recording_into
from rlad_command import Said

from services.base import telemetry, tracing
from services.base.telemetry import span
from services.clients import shared_calls
from services.report.records import ReportError
from services.report.trace_page import lanes, write_trace_page
from services.report.traces import TracedSpan, of_group, of_step, read_spans

RUN = "traced"
#: What a replica does with what it is sent: another process, which was told nothing but the table.
REPLICA = """
import sys
import pyarrow as pa
from services.base import telemetry, tracing
table = pa.ipc.open_stream(sys.stdin.buffer).read_all()
with tracing.carried(table, "traced") as table, telemetry.request("teacher", "handle"):
    assert b"rlad.trace" not in (table.schema.metadata or {})
    with telemetry.phase("teacher", "queue") as phase:
        phase.change("engine")
"""


@pytest.fixture(autouse=True)
def _named_run() -> Iterator[None]:
    telemetry.name_run(RUN)
    yield
    telemetry.name_run("shared")


def in_a_replica(table: pa.Buffer) -> None:
    subprocess.run([sys.executable, "-c", REPLICA], input=table, check=True, timeout=60)


async def collect(step: int) -> None:
    """A step's experience: two groups side by side, the second one's teacher in a process of its own."""

    async def group(name: str) -> None:
        with tracing.span("group", {"group": name}):
            with span("rollout", items=2):
                await asyncio.sleep(0)
            with span("teacher", items=2):
                table = tracing.carry(pa.table({"x": [1]}))
                if name == "b":
                    sink = pa.BufferOutputStream()
                    with pa.ipc.new_stream(sink, table.schema) as writer:
                        writer.write_table(table)
                    await asyncio.to_thread(in_a_replica, sink.getvalue())

    with tracing.of_step(RUN, step):
        await asyncio.gather(group("a"), group("b"))
        with span("assemble"):
            tracing.note(groups=["a", "b"])


def train(step: int) -> None:
    with tracing.of_step(RUN, step), span("step", step=step, rank=0), span("update", items=4):
        pass


def test_a_prompt_is_followed_over_processes(tmp_path: Path) -> None:
    tracing.begin(RUN, tmp_path / "traces")
    with tracing.of_step(RUN, 3), span("step", step=3, rank=0):
        asyncio.run(collect(3))
        with span("update", items=4):
            pass
    train(4)
    spans = of_step(read_spans(tmp_path), 3)
    by_name = {each.name: each for each in spans}
    assert spans[0].name == "step"
    assert {each.trace_id for each in spans} == {spans[0].trace_id}
    assert len({each.process for each in spans}) == 2
    followed = of_group(spans, "b")
    names = [each.name for each in followed]
    assert sorted(names) == sorted(
        [
            "step",
            "group",
            "rollout",
            "teacher",
            "teacher service",
            "teacher queue",
            "teacher engine",
            "assemble",
            "update",
        ]
    )
    of = {each.name: each for each in followed}
    for child, parent in (
        ("group", "step"), ("rollout", "group"), ("teacher", "group"), ("teacher service", "teacher"),
        ("teacher engine", "teacher service"), ("assemble", "step"), ("update", "step"),
    ):  # fmt: skip
        assert of[child].parent_id == of[parent].span_id, child
    assert of["assemble"].facts["groups"] == ["a", "b"]
    assert by_name["update"].facts["items"] == 4
    assert "teacher service" not in [each.name for each in of_group(spans, "a")]
    with pytest.raises(ReportError, match=r"no trace of step 9\. There are those of 3, 4"):
        of_step(read_spans(tmp_path), 9)
    with pytest.raises(ReportError, match="no group z"):
        of_group(spans, "z")


def test_a_call_that_groups_share_is_shown_with_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_calls, "AT_ONCE", 1)
    tracing.begin(RUN, tmp_path / "traces")

    async def ask(table: pa.Table) -> pa.Table:
        with tracing.span("teacher service", {}):
            await asyncio.sleep(0)
        return table

    shared = shared_calls.SharedCalls(ask)

    async def group(name: str) -> None:
        with tracing.span("group", {"group": name}), span("teacher", items=1):
            await shared(pa.table({"sequence_id": [name]}))

    async def three() -> None:
        with tracing.of_step(RUN, 3):
            await asyncio.gather(*map(group, "abc"))

    with tracing.of_step(RUN, 3), span("step", step=3, rank=0):
        asyncio.run(three())
    spans = of_step(read_spans(tmp_path), 3)
    services = {
        name: [each for each in of_group(spans, name) if each.name == "teacher service"] for name in "abc"
    }
    [teacher] = [each for each in of_group(spans, "b") if each.name == "teacher"]
    assert [len(each) for each in services.values()] == [1, 1, 1]
    assert services["a"] != services["b"] == services["c"]
    assert services["c"][0].parent_id == teacher.span_id


def test_a_group_that_was_begun_ahead_belongs_to_the_step_that_takes_it(tmp_path: Path) -> None:
    tracing.begin(RUN, tmp_path / "traces")
    for name in ("ahead", "later"):
        with tracing.span("group", {"group": name}), span("rollout"):
            pass
    with tracing.of_step(RUN, 5), span("step", step=5, rank=0):
        with tracing.span("group", {"group": "for-the-next"}), span("rollout"):
            pass
        with span("assemble"):
            tracing.note(groups=["ahead"], dropped=[])
    spans = of_step(read_spans(tmp_path), 5)
    assert [each.name for each in spans] == ["step", "group", "rollout", "assemble"]
    assert spans[1].facts["group"] == "ahead"
    assert len(of_group(spans, "ahead")) == 4


def test_lines_are_otlp_json(tmp_path: Path) -> None:
    tracing.begin(RUN, tmp_path / "traces")
    with pytest.raises(TimeoutError), span("verify", items=1):
        raise TimeoutError("no answer")
    [file] = (tmp_path / "traces").glob("*.jsonl")
    [told] = [json.loads(line) for line in file.read_text().splitlines()]
    [of_resource] = told["resourceSpans"]
    [made] = of_resource["scopeSpans"][0]["spans"]
    assert len(made["traceId"]) == 32
    assert len(made["spanId"]) == 16
    assert made["status"]["code"] == 2
    with file.open("a") as opened:
        opened.write('{"resourceSpans": [{"resou')  # the process was killed
    [read] = read_spans(tmp_path)
    assert (read.name, read.failed) == ("verify", True)
    file.write_text('{"resourceSpans": 5}\n')
    with pytest.raises(ReportError, match="line 1 is no span"):
        read_spans(tmp_path)


def test_a_collector_gets_what_is_sent_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        tracing.begin(RUN, tmp_path / "traces")
        train(0)
        tracing.end()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    sent = [
        s.name for each in got for r in each.resource_spans for scope in r.scope_spans for s in scope.spans
    ]
    assert sorted(sent) == ["step", "update"]
    assert not (tmp_path / "traces").exists()


def test_a_phase_that_is_changed_elsewhere_stays_with_its_call(tmp_path: Path, caplog: Any) -> None:
    """Whoever takes a call's work up says so in a task or thread of its own."""

    async def call(name: str, changed: Callable[[telemetry.phase], Awaitable[None]]) -> None:
        with tracing.span(name, {}):
            with telemetry.phase("teacher", "queue") as phase:
                await changed(phase)
            with telemetry.phase("teacher", "encode"):
                pass

    async def in_a_task(phase: telemetry.phase) -> None:
        await asyncio.create_task(asyncio.to_thread(phase.change, "engine"))

    async def too_late(phase: telemetry.phase) -> None:
        late.append(phase)

    async def body() -> None:
        with tracing.span("another", {}):
            await asyncio.gather(call("one", in_a_task), call("two", in_a_task), call("three", too_late))
        late[0].change("engine")  # by then the call was given up

    late: list[telemetry.phase] = []
    tracing.begin(RUN, tmp_path / "traces")
    asyncio.run(body())
    tracing.end()
    spans = read_spans(tmp_path)
    names = {each.span_id: each.name for each in spans}
    under = sorted((names.get(each.parent_id, ""), each.name) for each in spans)
    phases = ("teacher encode", "teacher engine", "teacher queue")
    assert under == sorted(
        [("", "another"), *(("another", name) for name in ("one", "two", "three"))]
        + [(name, phase) for name in ("one", "two") for phase in phases]
        + [("three", "teacher encode"), ("three", "teacher queue")]
    )
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_without_a_place_nothing_is_traced() -> None:
    tracing.begin(RUN, None)
    table = pa.table({"x": [1]})
    assert tracing.carry(table) is table
    train(0)


def test_a_bucket_leads_to_its_trace(tmp_path: Path) -> None:
    tracing.begin(RUN, tmp_path / "traces")
    registry = CollectorRegistry()
    with recording_into(registry):
        train(7)
    trace_id = f"{tracing.step_ids(RUN, 7)[0]:032x}"
    buckets = [line for line in generate_latest(registry).decode().splitlines() if "_bucket" in line]
    assert [line for line in buckets if 'stage="step"' in line and f'trace_id="{trace_id}"' in line]


def test_a_step_is_one_file_that_needs_no_server(tmp_path: Path) -> None:
    tracing.begin(RUN, tmp_path / "traces")
    train(0)
    page = write_trace_page(of_step(read_spans(tmp_path), 0), "traced, step 0", tmp_path / "page.html")
    text = page.read_text()
    assert "<script src=" not in text
    assert "traced, step 0" in text
    assert "update 1" in text


def test_a_page_that_cannot_be_written_says_where_else(rlad: Callable[..., Said], tmp_path: Path) -> None:
    tracing.begin(RUN, tmp_path / "traces")
    train(0)
    (tmp_path / "file").write_text("mine")
    said = rlad("trace", str(tmp_path), "0", "--out", "file/page.html")
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith("file/page.html cannot be written (File exists). Write --out FILE\n")


def test_spans_at_a_time_have_lanes_of_their_own() -> None:
    def made(name: str, start: float, end: float) -> TracedSpan:
        return TracedSpan(name, "t", f"{start}", "", start, end, {}, "p", failed=False)

    spans = [made("rollout", 0, 4), made("rollout", 1, 2), made("rollout", 2, 5), made("teacher", 4, 5)]
    assert [lane for lane, _ in lanes(spans)] == ["rollout 1", "rollout 2", "rollout 2", "teacher 1"]
