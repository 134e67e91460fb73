"""What a command starts ends with it, also what it cannot know of: real processes that lose their parents."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from services.base.leftovers import begun_with, none_left

_SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
#: Starts a process and ends, so that nobody is that one's parent any more.
_ORPHANS = [
    *(sys.executable, "-c"),
    f"import subprocess; print(subprocess.Popen({_SLEEPS!r}, stdout=subprocess.DEVNULL).pid)",
]


def _orphan() -> psutil.Process:
    started = subprocess.run(_ORPHANS, check=True, stdout=subprocess.PIPE, text=True)
    return psutil.Process(int(started.stdout))


def _gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_an_orphan_ends_with_the_block_and_what_began_before_does_not() -> None:
    before = subprocess.Popen(_SLEEPS)
    try:
        with none_left(grace_s=0.1):
            orphan = _orphan()
            assert not _gone(orphan)
        assert _gone(orphan)
        assert before.poll() is None
    finally:
        before.kill()
        before.wait()


def test_what_ends_by_itself_is_waited_for(tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = f"import time, pathlib; time.sleep(1); pathlib.Path({str(done)!r}).touch()"
    with none_left(grace_s=120):
        process = subprocess.Popen([sys.executable, "-c", program])
    assert done.exists()
    process.wait()


def test_an_error_goes_through_and_nothing_is_left() -> None:
    orphans: list[psutil.Process] = []

    def fails() -> None:
        with none_left(grace_s=0.1):
            orphans.append(_orphan())
            raise KeyError("what went wrong")

    with pytest.raises(KeyError, match="what went wrong"):
        fails()
    assert _gone(orphans[0])


def test_ctrl_c_in_the_wait_ends_it_at_once_and_all_that_is_left() -> None:
    program = f"""
import subprocess
from services.base.leftovers import none_left
with none_left(grace_s=3600):
    print(subprocess.Popen({_SLEEPS!r}, stdout=subprocess.DEVNULL).pid, flush=True)
"""
    command = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert command.stdout is not None
    left = psutil.Process(int(command.stdout.readline()))
    time.sleep(0.5)
    os.kill(command.pid, signal.SIGINT)
    assert command.wait(60) != 0
    assert _gone(left)
    command.stdout.close()


def test_the_variable_is_what_they_are_found_by() -> None:
    process = subprocess.Popen(_SLEEPS, env={**os.environ, "RLAD_A_TEST": "1"})
    try:
        assert [each.pid for each in begun_with("RLAD_A_TEST")] == [process.pid]
    finally:
        process.kill()
        process.wait()
    assert begun_with("RLAD_A_TEST") == []
