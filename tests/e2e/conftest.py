"""One run that went through without a fault, for all that look at what a run leaves."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.prometheus.executables import MissingError, executables
from deploy.prometheus.server import Prometheus, serving

# The test folders are no packages (pytest imports each file by itself); what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

from runs import finish, start

#: Every method, a step each. The first batch is that of the other runs, and the last step has all stages.
STAGES: dict[str, dict[str, Any]] = {
    "trrd": {"kind": "trrd"},
    "opd": {"kind": "opd"},
    "kdrl": {"kind": "kdrl"},
    "grpo": {"kind": "grpo"},
    "sft-trace": {"kind": "sft", "source": "trace"},
    "sft-teacher": {"kind": "sft", "source": "teacher"},
    "trrd again": {"kind": "trrd", "reference_kl": 0.01},
}


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus | None]:
    """Scrapes the finished run while it goes on; None where there is no Prometheus to be had."""
    try:
        executables()
    except MissingError:
        yield None
        return
    folder = tmp_path_factory.getbasetemp()
    with serving(folder / "prometheus", announcements=f"{folder}/watched/scrape-*.json") as server:
        yield server


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, prometheus: Prometheus | None) -> tuple[Path, str]:
    """A run through all methods, with two ranks of the learner, a reference that sleeps while it works, and
    no fault; and what it printed.
    """
    stages = [{"name": name, "steps": 1, "objective": objective} for name, objective in STAGES.items()]
    settings = (
        f"stages={json.dumps(stages)}",
        "reference={model: 'rlad:kk-student', sleep: true}",
        "learner.workers=2",
        "telemetry.linger_s=10",
    )
    run_dir = tmp_path_factory.mktemp("watched", numbered=False) / "whole"
    with pytest.MonkeyPatch.context() as patch:
        # Ray's processes report every 10 s otherwise, which leaves few points of a run this short.
        patch.setenv("RAY_metrics_report_interval_ms", "4000")
        return run_dir, finish(start(run_dir, *(f"--set={each}" for each in settings)), run_dir)
