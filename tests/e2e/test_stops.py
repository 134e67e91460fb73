"""Ctrl-C at every stage of a start and of an end leaves no process behind, nor does SIGTERM.

Of runs the engines are stubs (`tests/chaos/stubs`), so that a stage comes soon; of the service nothing is.
"""

import os
from pathlib import Path

import pytest
from engines import engines_below, is_connected, workers_below
from stops import CTRL_C, TERMINATE, TWICE, Stage, Started, stopped_at

from services.base.ports import free_port
from tests.chaos.recipe import Recipe

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "tests" / "chaos" / "stubs"
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]
STOPS = {"ctrl-c": CTRL_C, "sigterm": TERMINATE, "ctrl-c twice": TWICE}
STEPS = 3


#: Of `rlad run`, in the order in which they come. Its folder is FOLDER/runs/stopped.
OF_A_RUN: dict[str, Stage] = {
    "before Ray": lambda run: run.log.stat().st_size > 0,
    "Ray begins": lambda run: run.runs("gcs_server"),
    "Ray is up": lambda run: run.said("starting Ray"),
    "engines start": lambda run: run.runs("rollout:RolloutService"),
    "the learner starts": lambda run: run.said("starting the learner"),
    "services are up": lambda run: run.said("services are up"),
    "the first evaluation": lambda run: run.said("evaluating policy version 0"),
    "a version is published": lambda run: run.has_open("memfd:policy version 1"),
    "a checkpoint": lambda run: _in(run, "checkpoint_*"),
    "the last evaluation": lambda run: run.said(f"evaluating policy version {STEPS}"),
    "the end": lambda run: _in(run, "export/config.json"),
}


#: Of `rlad serve rollout` with vLLM, whose two workers share the model.
OF_A_SERVICE: dict[str, Stage] = {
    "Ray begins": lambda serve: serve.runs("gcs_server"),
    "Ray is up": lambda serve: serve.said("Ray is up"),
    "the engine starts": lambda serve: bool(engines_below(serve.process.pid)),
    "its workers start": lambda serve: bool(workers_below(serve.process.pid)),
    "its workers have joined": lambda serve: sum(map(is_connected, workers_below(serve.process.pid))) == 2,
    "it serves": lambda serve: serve.said("stop it with Ctrl-C"),
}


def _in(run: Started, pattern: str) -> bool:
    return any((run.log.parent / "runs" / "stopped").glob(pattern))


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("stage", OF_A_RUN)
def test_a_run_leaves_no_process(stage: str, stop: str, tmp_path: Path) -> None:
    recipe = Recipe(STEPS).write(tmp_path, "stopped")
    path = os.pathsep.join((str(STUBS), str(ROOT)))
    words = ("run", str(recipe))
    left = stopped_at(OF_A_RUN[stage], STOPS[stop], words, tmp_path / "said", PYTHONPATH=path)
    assert left == []


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("stage", OF_A_SERVICE)
def test_a_service_leaves_no_process(stage: str, stop: str, tmp_path: Path) -> None:
    settings = ("tensor_parallel_size=2", "kv_cache_memory_gib=0.1", "max_model_len=256")
    words = ["serve", "rollout", "--model", "rlad:kk-student", "--port", str(free_port())]
    words += [word for each in settings for word in ("--set", each)]
    left = stopped_at(OF_A_SERVICE[stage], STOPS[stop], words, tmp_path / "said")
    assert left == []
