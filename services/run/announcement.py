"""Where Prometheus finds the metrics of a run's Ray: an embedded one takes any port that is free."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray


@contextmanager
def announced(run_dir: Path) -> Iterator[None]:
    """Name the nodes of this process's Ray to Prometheus until the block ends.

    The file is in the format of Prometheus' ``file_sd_configs`` and lies beside the run's folder, called
    ``scrape-NAME.json``: Prometheus takes a * in a file's name, but not in a folder's.
    """
    targets = [
        f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes() if node["Alive"]
    ]
    file = run_dir.parent / f"scrape-{run_dir.name}.json"
    with suppress(OSError):  # a run does not end because nobody finds its metrics
        file.write_text(json.dumps([{"targets": targets}]))
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
