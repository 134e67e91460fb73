"""Short runs as processes, and what they leave."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import torch
from engines import engines_below
from safetensors.torch import load_file
from transformers import AutoTokenizer

from rlad_core import schema
from rlad_core.assembly import plan_shards
from rlad_core.config import load, resolve_model
from rlad_core.prompt_stream import PromptStream
from services.base.leftovers import begun_with

STEPS = 6
OVERRIDES = (
    f"stages.0.steps={STEPS}",
    "rollout.prompts_per_step=6",
    "rollout.group_size=4",
    "task.train.count=200",
    "task.evaluation.count=20",
    "task.evaluation.people=[2, 3]",
    "learner.warmup_steps=0",
    "learner.checkpoint_every=2",
    "learner.threads=1",  # two would wait for each other by spinning, with all that runs beside them
    "telemetry.sample_experience_every=1",
)
LIMIT_S = 900


def arguments(run_dir: Path, *more: str, recipe: str | Path = "kk-tiny-trrd") -> list[str]:
    """The command of a short run that writes to `run_dir`."""
    return [
        *(sys.executable, "-m", "services", "run", str(recipe)),
        *(part for override in OVERRIDES for part in ("--set", override)),
        *("--set", f"name={run_dir.name}", "--set", f"output.dir={run_dir.parent}", *more),
    ]


def rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object a line; none where there is no file yet."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def start(run_dir: Path, *more: str, recipe: str | Path = "kk-tiny-trrd") -> subprocess.Popen[str]:
    """Start a run; what it prints goes to a file beside its folder."""
    log = (run_dir.parent / f"{run_dir.name}.log").open("a")
    return subprocess.Popen(
        arguments(run_dir, *more, recipe=recipe),
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **_no_compiler(run_dir), _mark(run_dir): "1"},
        # Tests that are started in the background pass on that they ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _no_compiler(run_dir: Path) -> dict[str, str]:
    """As on a machine that has none, and where nothing was compiled before."""
    return {"CXX": "/no/compiler", "TORCHINDUCTOR_CACHE_DIR": str(run_dir.parent / "nothing-compiled")}


def finish(process: subprocess.Popen[str], run_dir: Path, code: int = 0) -> str:
    """Wait for the end of a run, with this exit code and no process left; what it printed."""
    process.wait(LIMIT_S)
    assert process.returncode == code, _printed(run_dir)[-4000:]
    _, left = psutil.wait_procs(begun_with(_mark(run_dir)), timeout=60)  # also of starts that were killed
    assert not left, left
    return _printed(run_dir)


def learn_again(run_dir: Path, name: str) -> Path:
    """Train on what a run has recorded; the folder of that, beside the run's."""
    recorded = ("--experience", str(run_dir / "experience"), "--set", f"name={name}")
    done = subprocess.run(
        [sys.executable, "-m", "services", "learn", str(run_dir / "recipe.yaml"), *recorded],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return run_dir.parent / name


def check_same_weights(run_dir: Path, other: Path) -> None:
    """Both have left the same policy, to the bit."""
    ours, theirs = (load_file(each / "export" / "model.safetensors") for each in (run_dir, other))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def _mark(run_dir: Path) -> str:
    """A variable that all processes of a run have in their environment."""
    return f"RUN_OF_TEST_{zlib.crc32(str(run_dir).encode())}"


def _printed(run_dir: Path) -> str:
    return (run_dir.parent / f"{run_dir.name}.log").read_text()


def wait_during(
    process: subprocess.Popen[str], run_dir: Path, condition: Callable[[], bool], what: str
) -> None:
    """`wait_for` something that only comes while the run goes on."""
    wait_for(lambda: process.poll() is not None or condition(), what)
    assert process.poll() is None, _printed(run_dir)[-4000:]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Look again and again, for `LIMIT_S` at most."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.1)


def check_every_group_once(run_dir: Path) -> None:
    """Every step there once, and the stream's first groups consumed in order: none twice, none skipped."""
    config = load(run_dir / "recipe.yaml")
    assert [row["step"] for row in rows(run_dir / "metrics.jsonl")] == list(range(config.total_steps))
    stream = PromptStream(config, AutoTokenizer.from_pretrained(resolve_model(config.policy.model)))
    size = config.rollout.prompts_per_step
    for row in rows(run_dir / "groups.jsonl"):
        positions = range(row["step"] * size, (row["step"] + 1) * size)
        prompts = stream.prompts(positions)
        expected = [stream.group_id(p, prompt) for p, prompt in zip(positions, prompts, strict=True)]
        assert sorted([*row["trained"], *row["dropped"]]) == sorted(expected), row["step"]


def check_same_scores(run_dir: Path, finished: Path) -> None:
    """Both runs trained on the same first batch, and their teachers said the same of it.

    A run keeps what its rank 0 trained on: this run's only rank on all of the batch, the finished run's first
    one on its shard.
    """
    config = load(finished / "recipe.yaml")
    batch = _first_batch(run_dir).sort_by([("group_id", "ascending"), ("sample_index", "ascending")])
    shard, _ = plan_shards(
        batch,
        groups=batch["group_id"].to_pylist(),
        mini_batches=config.learner.updates_per_batch,
        ranks=config.learner.workers,
        token_weights=config.stages[0].objective.token_weights,
    )
    ours, theirs = _scores(batch.take(shard.rows)), _scores(_first_batch(finished))
    assert ours.keys() == theirs.keys()
    for sequence, logprobs in ours.items():
        np.testing.assert_allclose(logprobs, theirs[sequence], atol=1e-4, rtol=0)


def _first_batch(run_dir: Path) -> pa.Table:
    """What rank 0 trained on in the first step."""
    return schema.from_ipc(sorted((run_dir / "experience").iterdir())[0].read_bytes())


def _scores(table: pa.Table) -> dict[tuple[Any, ...], list[float]]:
    """Teacher log-probs by prompt and response."""
    return {
        (*row["prompt_token_ids"], None, *row["response_token_ids"]): row["teacher_logprobs"]
        for row in table.to_pylist()
    }


def kill_engine(run: int) -> None:
    """Kill -9 the process that a run's rollout service has its engine in."""
    found: list[psutil.Process] = []

    def seen() -> bool:
        assert psutil.Process(run).status() != psutil.STATUS_ZOMBIE, "the run ended before it had an engine"
        found[:] = engines_below(run)
        return bool(found)

    wait_for(seen, f"an engine below {run}")
    found[-1].kill()
