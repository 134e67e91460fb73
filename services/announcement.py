"""Where Prometheus finds the metrics of a run's Ray: an embedded one takes any port that is free."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

FILE = "scrape.json"
"""In the run's folder while the run goes on, in the format of Prometheus' ``file_sd_configs``."""


@contextmanager
def announced(run_dir: Path) -> Iterator[None]:
    """Name the nodes of this process's Ray to Prometheus until the block ends."""
    targets = [
        f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes() if node["Alive"]
    ]
    file = run_dir / FILE
    file.write_text(json.dumps([{"targets": targets}]))
    try:
        yield
    finally:
        file.unlink()
