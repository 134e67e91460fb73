"""`rlad` doesn't care where it is started and where it is installed.

The wheel is installed outside the checkout, in a path with a space. The folder where the commands are
started has a space in its path too, and holds what our own packages are called; whoever imports any of it
fails.
"""

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from environments import Environment, carry_out, users_environment

from services.base.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LIMIT_S = 1200
STRANGER = 'raise ImportError(f"{__file__} is the user\'s own")\n'
ANSWER = {"task": "math", "gold": {"answer": "5"}, "responses": [{"response": r"It is \boxed{5}."}]}
PUZZLES = ("task.evaluation.count=4", "task.train.count=20")
SMALL = ("rollout.prompts_per_step=2", "rollout.group_size=2", "rollout.max_response_length=24")
STEP = ("stages.0.steps=1", "learner.threads=1", "learner.warmup_steps=0", "learner.updates_per_batch=1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder."""
    folder = tmp_path / "my folder"
    for package in ("deploy", "tests", "app", "rlad_core"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(STRANGER)
    (folder / "services.py").write_text(STRANGER)
    return folder


def read_only(command: list[str], folder: Path) -> list[str]:
    """The command such that it cannot write to the folder that it is started in."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        return command
    # Root writes wherever it likes, but not to what is mounted read-only, in a view of the files of its own.
    place = shlex.quote(str(folder))
    mount = f"mount --bind {place} {place} && mount -o remount,bind,ro {place} && cd {place}"
    probe = ["unshare", "--mount", "sh", "-c", f"{mount} && ! touch there 2>/dev/null"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, timeout=30).returncode:
        pytest.skip("root may write to every folder here, and may not mount one read-only")
    return ["unshare", "--mount", "sh", "-c", f"{mount} && exec {shlex.join(command)}"]


def test_a_verifier_is_served(full: Environment, folder: Path, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            full.rlad("serve", "verifier", "--port", str(port)),
            cwd=folder,
            env=users_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 200
        while "documentation" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{url}/healthz").status_code == 200
        verdict = httpx.post(f"{url}/v1/verify", json=ANSWER, timeout=60).raise_for_status().json()
        assert verdict["results"][0]["correct"] is True
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


@pytest.mark.long
def test_a_step_of_a_run(full: Environment, folder: Path, tmp_path: Path) -> None:
    overrides = (*PUZZLES, *SMALL, *STEP, f"output.dir={tmp_path / 'its runs'}", "name=short")
    command = full.rlad("run", "kk-tiny-trrd", *(f"--set={override}" for override in overrides))
    there = sorted(folder.rglob("*"))
    done = carry_out(command, folder, limit_s=LIMIT_S)
    assert "model" in done.stdout.splitlines()[-1]
    assert (tmp_path / "its runs" / "short" / "export" / "model.safetensors").is_file()
    assert sorted(folder.rglob("*")) == there, "a run leaves nothing but its own folder"


@pytest.mark.long
def test_an_evaluation_from_a_read_only_folder(full: Environment, folder: Path) -> None:
    command = full.rlad("evaluate", "rlad:kk-student", "--people=2", "--count=4", "--max-response-length=24")
    done = carry_out(read_only(command, folder), folder, limit_s=LIMIT_S)
    assert "2_people" in done.stdout
