"""What is lost while services and learner start beside each other: the run goes on, with one learner.

Engines are stubs (`tests/chaos/stubs`), so that a start takes seconds.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from stops import LIMIT_S, Started

from services.base.leftovers import begun_with
from tests.chaos.recipe import Recipe

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "tests" / "chaos" / "stubs"
STEPS = 2
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """A run of stubs, with further words of the command."""
    mark, log = f"RLAD_STARTED_{uuid.uuid4().hex}", tmp_path / "said"
    processes: list[subprocess.Popen[bytes]] = []

    def begun(*words: str) -> Started:
        path = os.pathsep.join((str(STUBS), str(ROOT)))
        recipe = Recipe(STEPS).write(tmp_path, "wounded")
        with log.open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "services", "run", str(recipe), *words],
                stdout=said,
                stderr=said,
                env={**os.environ, mark: "1", "SPT_NOENV": "1", "PYTHONPATH": path},
                start_new_session=True,
            )
        processes.append(process)
        return Started(process, log, mark)

    yield begun
    for each in begun_with(mark):
        each.kill()
    for process in processes:
        process.kill()
        process.wait(60)


def found(started: Started, title: str) -> psutil.Process:
    """The first process of that title."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and started.process.poll() is None:
        for each in begun_with(started.mark):
            with suppress(psutil.Error):
                if " ".join(each.cmdline()).startswith(title):
                    return each
        time.sleep(0.2)
    pytest.fail(f"there was no {title}: {started.log.read_text()[-2000:]}")


@pytest.mark.parametrize(
    "title",
    ["ExperienceCollector", "Evaluator", "Journal", "TrainController", "RayTrainWorker"],
)
def test_the_run_goes_on(title: str, begin: Callable[..., Started]) -> None:
    begun = begin()
    found(begun, f"ray::{title}").send_signal(signal.SIGKILL)
    code = begun.process.wait(LIMIT_S)
    said = begun.log.read_text()
    assert code == 0, said
    lines = (begun.log.parent / "runs" / "wounded" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(STEPS)), said
    assert begun_with(begun.mark) == []


def test_a_service_that_does_not_start_ends_the_learner_too(begin: Callable[..., Started]) -> None:
    begun = begin("--set", "teacher.engine=vllm", "--set", "teacher.engine_args={quantization: awq}")
    code = begun.process.wait(LIMIT_S)
    said = begun.log.read_text()
    assert code == 1, said
    assert "starting the learner" in said
    assert "wounded-teacher did not start" in said
    assert "Traceback" not in said
    assert begun_with(begun.mark) == []
