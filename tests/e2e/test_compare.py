"""`rlad compare smoke`: stopped halfway, gone on with, reported."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlad_core.config import SHIPPED
from runs import LIMIT_S, rows, wait_for
from services.compare.comparison import Comparison
from services.compare.suite import load_suite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def begin(suite: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    """The command as a shell starts it in the background: neither it nor its runs hear Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "services", "compare", str(suite), "--out", str(folder), *more],
        # As a user's: the tests' own environment has Ray on the loopback interface already.
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )


@pytest.mark.long
def test_a_stopped_comparison_goes_on_and_its_runs_share_their_services(tmp_path: Path) -> None:
    values = yaml.safe_load((SHIPPED / "suites" / "smoke.yaml").read_text())
    suite = tmp_path / "one-seed.yaml"
    suite.write_text(yaml.safe_dump({**values, "seeds": [0]}, sort_keys=False))
    folder = tmp_path / "compared"
    first, second = Comparison(load_suite(suite)[0], folder).members

    process = begin(suite, folder)
    log = folder / "logs" / f"{first.name}.log"
    wait_for(lambda: process.poll() is not None or log.exists(), "the beginning of the first run")
    other = begin(suite, folder)
    said, _ = other.communicate(timeout=LIMIT_S)
    assert other.returncode == 2, said
    assert f"is being worked on by process {process.pid}" in said
    assert "write another --out" in said
    process.terminate()
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, said
    assert "stopped. The same command goes on" in said

    done = completed(suite, folder)
    assert [row["step"] for row in rows(first.folder / "metrics.jsonl")] == [0, 1]
    # The second has the engine of the first, with the weights that it begins with itself.
    up = (folder / "logs" / f"{second.name}.log").read_text().partition("up from before: ")[2]
    assert "-rollout" in up
    held_out = {label: curves["held_out"]["seeds"] for label, curves in done["curves"].items()}
    assert held_out["TRRD"][0][0] == held_out["GRPO"][0][0]
    assert {row["method"]: row["seeds"] for row in done["accuracy"]} == {"TRRD": 1, "GRPO": 1}
    assert done["missing"] == {}
    assert "GRPO" in (folder / "report.html").read_text()

    kept = {member.name: rows(member.folder / "metrics.jsonl") for member in (first, second)}
    assert completed(suite, folder) == done
    assert {member.name: rows(member.folder / "metrics.jsonl") for member in (first, second)} == kept


@pytest.mark.long
def test_the_shipped_smoke_suite_two_runs_at_a_time(tmp_path: Path) -> None:
    done = completed(Path("smoke"), tmp_path, "--at-once", "2")
    assert {row["method"]: row["seeds"] for row in done["accuracy"]} == {"TRRD": 2, "GRPO": 2}
    held_out = {label: curves["held_out"]["seeds"] for label, curves in done["curves"].items()}
    # The same start, other problems in training by seed.
    assert [seed[0] for seed in held_out["TRRD"]] == [seed[0] for seed in held_out["GRPO"]]


def completed(suite: Path, folder: Path, *more: str) -> dict[str, Any]:
    """The results of the command, which went through."""
    process = begin(suite, folder, *more)
    said, _ = process.communicate(timeout=2 * LIMIT_S)
    assert process.returncode == 0, said
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results
