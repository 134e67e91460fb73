"""`rlad compare smoke`: stopped halfway, gone on with, reported."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runs import LIMIT_S, rows, wait_for
from services.compare.comparison import Comparison
from services.compare.suite import load_suite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def begin(folder: Path) -> subprocess.Popen[str]:
    """The command as a shell starts it in the background: neither it nor its runs hear Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "services", "compare", "smoke", "--out", str(folder)],
        # As a user's: the tests' own environment has Ray on the loopback interface already.
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )


def test_finished_runs_are_kept_and_the_others_are_carried_out(tmp_path: Path) -> None:
    suite, _ = load_suite(Path("smoke"))
    members = Comparison(suite, tmp_path).members
    first, others = members[:2], members[2:]

    process = begin(tmp_path)
    log = tmp_path / "logs" / f"{others[0].name}.log"
    wait_for(
        lambda: process.poll() is not None or log.exists(), "two finished runs and the third's beginning"
    )
    second = begin(tmp_path)
    said, _ = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 2, said
    assert f"is being worked on by process {process.pid}" in said
    assert "write another --out" in said
    process.terminate()
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, said
    assert "stopped. The same command goes on" in said
    assert all(member.is_finished() for member in first), said
    kept = {member.name: rows(member.folder / "metrics.jsonl") for member in first}
    table = json.loads((tmp_path / "results.json").read_text())
    assert {row["method"]: row["seeds"] for row in table["accuracy"]} == {"TRRD": 1, "GRPO": 1}
    assert set(table["missing"]) == {member.name for member in others}

    process = begin(tmp_path)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    log_of = {member.name: (tmp_path / "logs" / f"{member.name}.log").read_text() for member in members}
    for number in (0, 1):  # each has the engine of the run before it
        assert "-rollout" in log_of[f"grpo-seed{number}"].partition("up from before: ")[2]
    assert "up from before: " not in log_of["trrd-seed0"]
    assert {member.name: rows(member.folder / "metrics.jsonl") for member in first} == kept
    table = json.loads((tmp_path / "results.json").read_text())
    assert {row["method"]: row["seeds"] for row in table["accuracy"]} == {"TRRD": 2, "GRPO": 2}
    assert table["missing"] == {}
    # The same start, other problems in training by seed.
    held_out = {label: curves["held_out"]["seeds"] for label, curves in table["curves"].items()}
    assert [seed[0] for seed in held_out["TRRD"]] == [seed[0] for seed in held_out["GRPO"]]
    assert "GRPO" in (tmp_path / "report.html").read_text()
