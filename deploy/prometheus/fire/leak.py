"""A node with little memory, and a worker on it that takes more and more: foreseen first, then killed."""

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.prometheus.fire.processes import started, wait
from deploy.prometheus.fire.watching import StartError, Watching
from services.base.ports import free_port

NODE_GIB = 4.0
FORESEEN, KILLED = "RladMemoryForeseen", "RladWorkerKilledForMemory"
_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def strike(folder: Path, watching: Watching) -> None:
    """See RladMemoryForeseen and RladWorkerKilledForMemory."""
    folder.mkdir(exist_ok=True)
    port, log = free_port(), folder / "leak.log"
    with small_node(NODE_GIB) as inside:
        command = [sys.executable, "-m", "deploy.prometheus.fire.leaking", str(port), str(folder)]
        with started([*inside, shlex.join(command)], log) as process:
            wait(lambda: "leaks" in log.read_text(), "the worker", process, log)
            for alert in (FORESEEN, KILLED):
                watching.fires(
                    alert,
                    f"a worker that takes 12 MiB a second on a node of {NODE_GIB:g} GiB",
                    alive=lambda: process.poll() is None,
                )
            watching.resolves(FORESEEN, KILLED)  # the worker was killed, and leaks no more
    (folder / "scrape-leak.json").unlink(missing_ok=True)


@contextmanager
def small_node(gib: float) -> Iterator[list[str]]:
    """What comes before a command, which then has no more memory: a cgroup, mounted where Ray looks.

    Raises:
        StartError: cgroups cannot be made here.
    """
    first = _V1.is_dir()
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    ours = next(path for _, kind, path in lines if kind == ("memory" if first else ""))
    root = _V1 if first else _V2
    group = root / ours.lstrip("/") / f"rlad-node-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(int(gib * 2**30)))
    except OSError as error:
        raise StartError(f"needs root and a cgroup that may have others below it: {error}") from error
    mount = f"mount --bind {shlex.quote(str(group))} {root}"  # as containers without a namespace see theirs
    into = f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))}"
    script = f'{into} && exec unshare --mount sh -c \'{mount} && eval exec "$0"\' "$0"'
    try:
        yield ["sh", "-c", script]
    finally:
        for _ in range(50):  # its last process has just ended
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.2)
