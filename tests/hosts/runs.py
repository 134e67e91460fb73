"""A run on the hosts, what is done to them meanwhile, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import shlex
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.hosts.ray_nodes import PLACED, RayHosts

LIMIT_S = 600.0
"""For the next step, or the end."""
CUT_S = 20.0
_USER = "/tmp/user"  # on the head alone


@dataclass(frozen=True)
class Event:
    """step: after how many steps it comes. happens: what."""

    step: int
    happens: Callable[[RayHosts], None]


@dataclass(frozen=True)
class Left:
    """weights: SHA-256 of the exported model. ledger: all of its visits."""

    weights: str
    ledger: list[tuple[Any, ...]]


def cut(role: str) -> Callable[[RayHosts], None]:
    """A host's cable is cut for a while."""

    def happens(cluster: RayHosts) -> None:
        cluster.switch.unplug(cluster.hosts[role])
        time.sleep(CUT_S)
        cluster.switch.plug(cluster.hosts[role])

    return happens


def replaced(role: str) -> Callable[[RayHosts], None]:
    """A host is gone, and a new one with another address joins."""

    def happens(cluster: RayHosts) -> None:
        cluster.remove(role)
        cluster.join(role)

    return happens


def of_a_user(cluster: RayHosts, name: str, steps: int) -> str:
    """A recipe on the head whose reward and data are files of a user there; its path."""
    imports = "from pathlib import Path; from tests.chaos.recipe import Recipe"
    program = f"{imports}; Recipe({steps}, limit_s=None).write(Path({_USER!r}), {name!r})"
    cluster.hosts["head"].run(sys.executable, "-c", program, environment=cluster.environment)
    return f"{_USER}/{name}.yaml"


def carry_out(
    cluster: RayHosts, recipe: str, name: str, settings: Sequence[str] = (), events: Sequence[Event] = ()
) -> Left:
    """A run from its start to its end; it is started once, and never again.

    Raises:
        AssertionError: it failed, or nothing happens any more.
    """
    run_dir, waiting = cluster.runs / name, list(events)
    joined = (f"name={name}", f"output.dir={cluster.runs}", f"cluster.address={cluster.address}")
    words = [word for each in (*PLACED, *joined, *settings) for word in ("--set", each)]
    process = cluster.rlad("run", recipe, *words)
    done, deadline = -1, time.monotonic() + LIMIT_S
    try:
        while (code := process.poll()) is None:
            if (now := _steps(run_dir)) != done:
                done, deadline = now, time.monotonic() + LIMIT_S
            if waiting and done >= waiting[0].step:
                waiting.pop(0).happens(cluster)
                deadline = time.monotonic() + LIMIT_S
            assert time.monotonic() < deadline, f"nothing happened for {LIMIT_S:g} s: {_said(cluster)}"
            time.sleep(0.2)
        assert code == 0, _said(cluster)
        assert not waiting, "the run was at its end before"
    finally:
        for inside in psutil.Process(process.pid).children() if process.poll() is None else ():
            inside.kill()  # what runs there; the other one waits for it
        process.wait(60)
    return _left(run_dir)


def _left(run_dir: Path) -> Left:
    weights = hashlib.sha256((run_dir / "export" / "model.safetensors").read_bytes()).hexdigest()
    with sqlite3.connect(run_dir / "ledger.sqlite") as ledger:
        return Left(weights, ledger.execute("SELECT * FROM visits ORDER BY step, position").fetchall())


def _steps(run_dir: Path) -> int:
    file = run_dir / "metrics.jsonl"
    rows = file.read_text().splitlines() if file.is_file() else []
    try:
        return int(json.loads(rows[-1])["version"])
    except (IndexError, ValueError):  # none yet, or one that is just being written
        return 0


def _said(cluster: RayHosts) -> str:
    return (cluster.runs / "said.log").read_text(errors="replace")[-4000:]


def entering(cluster: RayHosts) -> str:
    """For each host the command that opens a shell there."""
    return "\n".join(f"{role}: {shlex.join(host.command('bash'))}" for role, host in cluster.hosts.items())
