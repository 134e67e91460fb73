"""What runs inside a worker process. Imports no Ray, so that a new worker is there at once."""

import ctypes
import importlib
import os
import resource
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

from rlad_core.tasks.base import Task, Verdict


@dataclass(frozen=True)
class Check:
    """One response to be judged."""

    task: str
    response: str
    gold: str


@dataclass(frozen=True)
class Failed:
    """A check that gave no verdict; `why` completes "the check ..."."""

    kind: str
    why: str


Outcome = Verdict | Failed

_PR_SET_PDEATHSIG = 1
_tasks: dict[str, Task] = {}
_memory_limit_bytes = 0


READY = "ready"
"""What a worker sends before anything else."""


def serve(connection: Connection, tasks: dict[str, str], memory_limit_bytes: int) -> None:
    """Answer (checks, soft limit) with `judge` of them, until the other end is closed.

    Args:
        tasks: see `load`.
        memory_limit_bytes: address space that checks may take beyond what the process has now.
    """
    # A check that hangs must not outlive a service that was killed. The fork server ends once nobody holds
    # this descriptor, which it gives to its workers too; and they are to end with it.
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches every process of a terminal; ending the workers is the service's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _tasks.update(load(tasks))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    global _memory_limit_bytes
    _memory_limit_bytes = memory_limit_bytes
    connection.send(READY)
    while True:
        try:
            checks, soft_limit_s = connection.recv()
        except EOFError:
            return
        connection.send(judge(checks, soft_limit_s))


def load(tasks: dict[str, str]) -> dict[str, Task]:
    """The tasks by name.

    Args:
        tasks: name -> "module:class" of a task without arguments.

    Raises:
        ValueError: there is no such module or class.
    """
    loaded: dict[str, Task] = {}
    for name, place in tasks.items():
        module, _, attribute = place.partition(":")
        try:
            loaded[name] = getattr(importlib.import_module(module), attribute)()
        except (ImportError, AttributeError) as error:
            raise ValueError(f"task {name!r}: {place!r} is no module:class ({error})") from error
    return loaded


def judge(checks: Sequence[Check], soft_limit_s: float) -> list[Outcome]:
    """Judge checks in order, until all are done or the time is over.

    Returns:
        Outcomes of the first checks, at least one; those left out took no part.
    """
    stop = time.monotonic() + soft_limit_s
    outcomes: list[Outcome] = []
    for check in checks:
        outcomes.append(_judge(check))
        if time.monotonic() > stop:
            break
    return outcomes


def _judge(check: Check) -> Outcome:
    try:
        return _tasks[check.task].verify(check.response, check.gold)
    except MemoryError:
        return Failed("memory", f"needed more than {_memory_limit_bytes / 2**20:.0f} MiB")
    except Exception as error:  # noqa: BLE001 - one response must not fail its neighbours; the caller is told
        return Failed("error", f"raised {type(error).__name__}: {error}")
