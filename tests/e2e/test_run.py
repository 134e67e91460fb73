"""Whole runs through the command line: real Ray, real vLLM, the shipped tiny models, real HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlad_core import schema
from rlad_core.config import load, resolve_model
from rlad_core.prompts import PromptStream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

STEPS = 6
OVERRIDES = (
    f"stages.0.steps={STEPS}",
    "rollout.prompts_per_step=6",
    "rollout.group_size=4",
    "task.train.count=200",
    "task.evaluation.count=20",
    "learner.warmup_steps=0",
    "learner.checkpoint_every=2",
    "telemetry.sample_experience_every=1",
)
LIMIT_S = 420


def _arguments(run_dir: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "services", "run", "kk-tiny-trrd", *more),
        *(part for override in OVERRIDES for part in ("--set", override)),
        *("--set", f"name={run_dir.name}", "--set", f"output.dir={run_dir.parent}"),
    ]


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _start(run_dir: Path, *more: str) -> subprocess.Popen[str]:
    log = (run_dir.parent / f"{run_dir.name}.log").open("a")
    return subprocess.Popen(_arguments(run_dir, *more), stdout=log, stderr=subprocess.STDOUT, text=True)


def _finish(process: subprocess.Popen[str], run_dir: Path) -> str:
    process.wait(LIMIT_S)
    printed = (run_dir.parent / f"{run_dir.name}.log").read_text()
    assert process.returncode == 0, printed[-4000:]
    return printed


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.1)


def _check_every_group_once(run_dir: Path) -> None:
    """Every step there once, and the stream's first groups consumed in order: none twice, none skipped."""
    assert [row["step"] for row in _rows(run_dir / "metrics.jsonl")] == list(range(STEPS))
    config = load(run_dir / "recipe.yaml")
    stream = PromptStream(config, AutoTokenizer.from_pretrained(resolve_model(config.policy.model)))
    size = config.rollout.prompts_per_step
    for row in _rows(run_dir / "groups.jsonl"):
        positions = range(row["step"] * size, (row["step"] + 1) * size)
        prompts = stream.prompts(positions)
        expected = [stream.group_id(p, prompt) for p, prompt in zip(positions, prompts, strict=True)]
        assert sorted([*row["trained"], *row["dropped"]]) == sorted(expected), row["step"]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that went through without a fault, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    return run_dir, _finish(_start(run_dir), run_dir)


def test_a_run_leaves_its_record(finished_run: tuple[Path, str]) -> None:
    run_dir, printed = finished_run
    _check_every_group_once(run_dir)
    for row in _rows(run_dir / "metrics.jsonl"):
        assert row["version"] == row["step"] + 1
        assert {"rollout", "teacher", "verify", "assemble", "update", "weight_sync", "step"} <= row[
            "seconds"
        ].keys()
        assert row["staleness_max"] == 0
    evaluations = _rows(run_dir / "evaluation.jsonl")
    assert {(row["when"], row["subset"]) for row in evaluations} >= {
        (when, subset) for when in ("before", "after") for subset in ("2_people", "3_people")
    }
    assert all(row["total"] == 20 for row in evaluations if row["subset"] != "all")
    assert (run_dir / "report.html").stat().st_size > 10_000
    assert list((run_dir / "tensorboard").iterdir())
    for part in ("2 people", "report.html", "export"):
        assert part in printed


def test_the_learner_and_the_engines_agree(finished_run: tuple[Path, str]) -> None:
    """Rollout log-probs and the learner's, teacher scores and a transformers forward, on real experience."""
    run_dir, _ = finished_run
    trained = [row for row in _rows(run_dir / "metrics.jsonl") if "mismatch" in row]
    assert trained
    assert max(row["mismatch"] for row in trained) < 1e-4
    config = load(run_dir / "recipe.yaml")
    assert config.teacher is not None
    teacher = AutoModelForCausalLM.from_pretrained(resolve_model(config.teacher.model), dtype=torch.float32)
    sampled = [schema.from_ipc(file.read_bytes()) for file in sorted((run_dir / "experience").iterdir())]
    rows = [row for table in sampled for row in table.slice(0, 4).to_pylist()]
    assert rows
    for row in rows:
        prompt, response = row["prompt_token_ids"], row["response_token_ids"]
        with torch.inference_mode():
            logits = teacher(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(row["teacher_logprobs"]), expected, atol=1e-4, rtol=0)


def test_the_export_loads_and_was_trained(finished_run: tuple[Path, str]) -> None:
    run_dir, _ = finished_run
    config = load(run_dir / "recipe.yaml")
    before = AutoModelForCausalLM.from_pretrained(resolve_model(config.policy.model), dtype=torch.float32)
    after = AutoModelForCausalLM.from_pretrained(run_dir / "export", dtype=torch.float32)
    assert AutoTokenizer.from_pretrained(run_dir / "export").chat_template
    changed = [
        name
        for name, tensor in after.state_dict().items()
        if not torch.equal(tensor, before.state_dict()[name])
    ]
    assert len(changed) == len(before.state_dict())


def test_a_killed_run_continues_where_it_was(tmp_path: Path) -> None:
    run_dir = tmp_path / "killed"
    process = _start(run_dir)
    # Step 3 is done and the last checkpoint holds two steps: one step's work will be lost and done again.
    _wait_for(lambda: len(_rows(run_dir / "metrics.jsonl")) >= 3 or process.poll() is not None, "three steps")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    assert len(_rows(run_dir / "metrics.jsonl")) < STEPS
    _finish(_start(run_dir, "--resume"), run_dir)
    _check_every_group_once(run_dir)


def test_an_interrupted_run_says_how_to_continue(tmp_path: Path) -> None:
    run_dir = tmp_path / "interrupted"
    process = _start(run_dir)
    _wait_for(lambda: len(_rows(run_dir / "metrics.jsonl")) >= 1 or process.poll() is not None, "a step")
    process.send_signal(signal.SIGINT)
    printed = _finish(process, run_dir)
    assert "--resume" in printed
    done = len(_rows(run_dir / "metrics.jsonl"))
    assert 1 <= done < STEPS
    _finish(_start(run_dir, "--resume"), run_dir)
    _check_every_group_once(run_dir)
