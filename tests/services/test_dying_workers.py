"""A worker process that does not come up, or dies at once, says why: real limits, real signals."""

import asyncio
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlad_core.tasks.base import TaskSpec, Verdict
from services.verifier.checking import endings, forks
from services.verifier.checking.messages import Check
from services.verifier.checking.pool import CheckPool

HOSTILE = TaskSpec("hostile_task:Hostile", {})


@contextmanager
def pool_of(spec: TaskSpec = HOSTILE) -> Iterator[CheckPool]:
    pool = CheckPool({"mine": spec}, workers=1, time_limit_s=5.0, memory_limit_bytes=2**28)
    try:
        yield pool
    finally:
        pool.close()


def why_it_does_not_start(spec: TaskSpec = HOSTILE) -> str:
    with pool_of(spec) as pool, pytest.raises(RuntimeError) as failed:
        asyncio.run(pool.start())
    return str(failed.value)


def written(folder: Path, text: str) -> TaskSpec:
    (folder / "mine.py").write_text(text)
    return TaskSpec(f"{folder}/mine.py:Mine", {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 5))\nwhile True: pass",
            "ended with SIGXCPU (its limit of processor time, ulimit -t) (mine.py)",
        ),
        (
            "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
            "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
            "import tempfile\ntempfile.TemporaryFile(buffering=0).write(b'x' * 100)",
            "ended with SIGXFSZ (its limit of file size, ulimit -f) (mine.py)",
        ),
        (
            "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**20, 2**20))\nx = bytearray(2**24)",
            "MemoryError (mine.py, line 3)",
        ),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module' (mine.py, line 1)"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "ended with SIGKILL (mine.py)"),
        (
            "import os\nos.write(2, b'first line\\nno space left on device\\n\\n')\nos.abort()",
            "ended with SIGABRT (mine.py, line 3); its last words were: ",
        ),
    ],
)
def test_what_ends_a_worker_that_loads_a_users_code(tmp_path: Path, text: str, says: str) -> None:
    why = why_it_does_not_start(written(tmp_path, text))
    assert why.startswith("task 'mine': ")
    assert says in why


def test_a_module_that_is_not_there() -> None:
    why = why_it_does_not_start(TaskSpec("no_such_package.task:Mine", {}))
    assert "no_such_package" in why


def test_what_ended_the_process_that_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_PROGRAM", "import no_such_module")
    assert why_it_does_not_start() == (
        "no worker process can be forked: the process that forks them has ended with exit code 1; "
        "its last words were: ModuleNotFoundError: No module named 'no_such_module'"
    )
    monkeypatch.setattr(forks, "_PROGRAM", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert why_it_does_not_start().endswith("has ended with SIGTERM")


def test_no_memory_for_another_process() -> None:
    with pool_of() as pool:
        asyncio.run(pool.start())
        [server] = [child for child in _children(os.getpid()) if pool.pids[0] in _children(child)]
        resource.prlimit(server, resource.RLIMIT_AS, (2**20, 2**20))
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(RuntimeError) as failed:
            asyncio.run(_judged_after_death(pool))
        assert "memory" in str(failed.value).lower()


def test_the_process_that_forks_may_be_killed() -> None:
    with pool_of() as pool:
        asyncio.run(pool.start())
        [server] = [child for child in _children(os.getpid()) if pool.pids[0] in _children(child)]
        os.kill(server, signal.SIGKILL)  # and its workers with it
        assert isinstance(asyncio.run(_judged_after_death(pool)), Verdict)


async def _judged_after_death(pool: CheckPool) -> object:
    """The outcome of a check once the worker's end was noticed."""
    before = pool.pids
    for _ in range(200):
        if pool.pids != before:
            break
        await asyncio.sleep(0.05)
    return (await pool.judge([Check("mine", "a", "{}")]))[0]


def _children(pid: int) -> list[int]:
    return [
        int(status.parent.name)
        for status in Path("/proc").glob("[0-9]*/stat")
        if status.read_text().rpartition(")")[2].split()[1] == str(pid)
    ]


_LIMITED = """
import asyncio, resource
from rlad_core.tasks.base import TaskSpec
from services.verifier.checking.pool import CheckPool

async def main():
    spec = TaskSpec("rlad_core.tasks.knights_knaves.task:KnightsKnaves", {{}})
    pool = CheckPool({{"mine": spec}}, workers=1, time_limit_s=5, memory_limit_bytes=2**28)
    limit = resource.{limit}
    resource.setrlimit(limit, ({value}, resource.getrlimit(limit)[1]))
    try:
        await pool.start()
    except RuntimeError as error:
        print(error)
    pool.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("RLIMIT_NOFILE", 14, "no worker process can be started: Too many open files (see ulimit -n)"),
        ("RLIMIT_FSIZE", 0, "no worker process can be started: File too large (see ulimit -f)"),
        (
            "RLIMIT_AS",
            2**25,
            "no worker process can be started: can't start new thread; see ulimit -u and -v",
        ),
    ],
)
def test_limits_of_the_service_itself(limit: str, value: int, says: str) -> None:
    program = _LIMITED.format(limit=limit, value=value)
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert says in ran.stdout, ran.stderr


def test_what_the_kernel_kills_for_memory_is_told_so() -> None:
    kills = endings.kills_for_memory()
    assert kills is None or kills >= 0
    # None of this machine since then, and one more than there were.
    assert endings.how_it_ended(-signal.SIGKILL, kills) == "SIGKILL"
    if kills is not None:
        told = endings.how_it_ended(-signal.SIGKILL, kills - 1)
        assert told == "SIGKILL (by the kernel, which was out of memory)"
    assert endings.how_it_ended(None, None) == "an unknown exit code"
    hindered = endings.what_hinders(OSError(errno.EAGAIN, "Try again"))
    assert hindered.startswith("Try again (no more processes are allowed: see ulimit -u")
