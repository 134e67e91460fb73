"""Prometheus keeps what a service's own page tells: which trace fell into which bucket of a latency."""

import json
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from deploy.grafana.alone import ALONE
from deploy.grafana.answers import substitute
from deploy.prometheus.server import serving
from services.base import telemetry, tracing
from services.base.ports import free_port
from services.serve.http.pages import add_pages

LIMIT_S = 120.0


def test_a_panel_s_bucket_leads_to_its_trace(prometheus_programs: dict[str, Path], tmp_path: Path) -> None:
    panel = next(panel for panel in ALONE.panels if "teacher" in panel.title)
    app = FastAPI()
    add_pages(app)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    tracing.begin("tiny", tmp_path / "traces")
    try:
        with telemetry.request("teacher", "json"):
            trace = tracing.trace_id()
        thread.start()
        (tmp_path / "alone-teacher.json").write_text(json.dumps([{"targets": [f"127.0.0.1:{port}"]}]))
        announced = str(tmp_path / "alone-*.json")
        with serving(tmp_path / "prometheus", announcements=announced, interval_s=1.0) as prometheus:
            began = time.time()
            found: set[str] = set()
            while trace not in found:
                assert time.time() < began + LIMIT_S, f"{trace} is not among {found}"
                time.sleep(0.5)
                series = prometheus.get(
                    "query_exemplars",
                    query=substitute(panel.queries[0].expr, {"__rate_interval": "1m"}),
                    start=began - 600,
                    end=time.time() + 600,
                )
                found = {one["labels"]["trace_id"] for each in series for one in each["exemplars"]}
    finally:
        tracing.end()
        server.should_exit = True
        if thread.ident is not None:
            thread.join(60)


@pytest.mark.parametrize("name", ["docker/compose.yaml", "docs/observability.md"])
def test_prometheus_is_started_so_that_it_keeps_them(name: str) -> None:
    assert "--enable-feature=exemplar-storage" in (Path(__file__).resolve().parents[2] / name).read_text()
