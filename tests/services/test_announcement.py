"""Where Prometheus finds a run's metrics, and what happens where that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray

from services.run.announcement import announced


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a run in a Ray of two nodes, of which one is gone."""
    node = {"NodeManagerAddress": "10.0.0.1", "MetricsExportPort": 9100, "Alive": True}
    monkeypatch.setattr(ray, "nodes", lambda: [node, {**node, "Alive": False}])
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def test_nodes_are_named_for_as_long_as_the_run_lasts(run_dir: Path) -> None:
    file = run_dir.with_name("scrape-mine.json")
    with announced(run_dir):
        assert json.loads(file.read_text()) == [{"targets": ["10.0.0.1:9100"]}]
    assert not file.exists()


def test_a_file_that_is_not_ours_to_write_or_remove_ends_no_run(run_dir: Path) -> None:
    run_dir.with_name("scrape-mine.json").mkdir()
    with announced(run_dir):
        pass
    assert run_dir.with_name("scrape-mine.json").is_dir()
