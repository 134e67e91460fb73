"""A training with a wrong teacher, wrong rewards and a leak, whose engine and then whose collector stop."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from deploy.prometheus.fire.processes import named, started, stopped, wait
from deploy.prometheus.fire.watching import Watching
from rlad_core.config import resolve_model

NAME = "astray"
#: Rewards that tell groups apart even when the policy only babbles: else there would be nothing to learn.
_REWARD = '''"""By the response's length, which says nothing of the task."""


def score(response: str, gold: str) -> float:
    return len(response) % 4 / 3
'''
#: Keeps pages of every batch, as one does that keeps tensors of every step: until it is 2 GiB over the plan.
_OBJECTIVE = '''"""TRRD with a leak."""

import torch

from rlad_core.objectives.trrd import TRRD

_kept = []


class Leaking(TRRD):
    """Each call keeps 128 MiB, 24 calls long."""

    def __call__(self, batch, step):
        if len(_kept) < 24:
            _kept.append(torch.ones(2**25))
        return super().__call__(batch, step)
'''
_AT_WORK = 'max(ray_rlad_stage_in_flight{run="astray", stage=~"update|old_logprobs"}) > 0'
_ATTEMPTS = 5
_ATTEMPT_S = 45.0


def strike(folder: Path, watching: Watching) -> None:
    """See RladKlOutOfRange, RladClipFractionHigh, RladMemoryOverPlan, RladReplicaOnOldPolicy and
    RladNoStepFinished.
    """
    folder.mkdir(exist_ok=True)
    recipe, log = written(folder), folder / f"{NAME}.log"
    with started([sys.executable, "-m", "services", "run", str(recipe)], log) as process:

        def alive() -> bool:
            return process.poll() is None

        wait(lambda: _steps(folder) >= 2, "the second step", process, log)
        wrong = "a teacher of random weights, and rewards for the length"
        watching.fires("RladKlOutOfRange", wrong, alive=alive)
        watching.fires("RladClipFractionHigh", wrong, alive=alive)
        watching.fires("RladMemoryOverPlan", "an objective that keeps 128 MiB of every batch", alive=alive)
        _old_policy(process, watching)
        with stopped(named("ray::ExperienceCollector", process.pid)):
            told = "SIGSTOP of the actor that gives batches to the learner"
            watching.fires("RladNoStepFinished", told, alive=alive)
        watching.resolves("RladNoStepFinished")
    watching.resolves("RladKlOutOfRange", "RladClipFractionHigh", "RladMemoryOverPlan")


def written(folder: Path) -> Path:
    """The recipe's file."""
    rows = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(4000)]
    for name, part in (("train.jsonl", rows), ("held.jsonl", [{"question": "One?", "answer": "1"}])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "reward.py").write_text(_REWARD)
    (folder / "objective.py").write_text(_OBJECTIVE)
    recipe = {
        "name": NAME,
        "policy": {"model": "rlad:kk-student", "max_length": 144},
        "teacher": {"model": str(_wrong_teacher(folder / "teacher"))},
        "task": {
            "name": "prompts",
            "reward": str(folder / "reward.py:score"),
            "train": {"files": [str(folder / "train.jsonl")]},
            "evaluation": {"files": [str(folder / "held.jsonl")]},
        },
        "rollout": {
            "prompts_per_step": 24,
            "group_size": 8,
            "max_response_length": 64,
            "kv_cache_memory_gib": 0.5,
            "drop_uninformative": False,
        },
        "verifier": {"workers": 1},
        "stages": [{"steps": 1000, "objective": {"kind": f"{folder / 'objective.py'}:Leaking"}}],
        "learner": {
            "lr": 1e-3,
            "warmup_steps": 0,
            "updates_per_batch": 4,
            "checkpoint_every": 1000,
            "threads": 1,
        },
        "output": {"dir": str(folder)},
    }
    file = folder / f"{NAME}.yaml"
    file.write_text(json.dumps(recipe))  # which is YAML too
    return file


def _steps(folder: Path) -> int:
    file = folder / NAME / "metrics.jsonl"
    return len(file.read_bytes().splitlines()) if file.is_file() else 0


def _wrong_teacher(folder: Path) -> Path:
    """Of the right vocabulary, so that nothing but what it says is wrong."""
    shutil.copytree(resolve_model("rlad:kk-teacher"), folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.2)
    model.save_pretrained(folder)
    return folder


def _old_policy(process: subprocess.Popen[bytes], watching: Watching) -> None:
    """Stop the engine while the learner works, so that it cannot take what is published next.

    Prometheus hears of the learner's work seconds later; if the engine was already sampling again, once more.
    """
    told = "SIGSTOP of a replica's engine before it takes a version"
    missed, alert = list(watching.missed), "RladReplicaOnOldPolicy"
    for _ in range(_ATTEMPTS):
        deadline = time.monotonic() + _ATTEMPT_S
        while not watching.prometheus.at(_AT_WORK, time.time()) and time.monotonic() < deadline:
            time.sleep(0.1)
        with stopped(named("VLLM::EngineCore", process.pid)):
            fired = watching.fires(alert, told, limit_s=_ATTEMPT_S, alive=lambda: process.poll() is None)
        if fired:
            watching.missed = missed
            watching.resolves(alert)
            return
        time.sleep(5.0)
