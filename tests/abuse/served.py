"""`rlad serve` as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.base.ports import free_port
from tests.abuse.target import Target

ROOT = Path(__file__).parents[2]
_UP_WITHIN_S = 240.0
_STOPPED_WITHIN_S = 120.0


@dataclass(frozen=True)
class Ended:
    """A command that came to its end: exit code, what it said, seconds."""

    code: int
    said: str
    seconds: float


def command(*arguments: str) -> list[str]:
    """`rlad serve` with these arguments."""
    return [sys.executable, "-m", "services", "serve", *arguments]


def ended(*arguments: str, limit_s: float = 120.0) -> Ended:
    """`rlad serve` where it is to be refused."""
    began = time.monotonic()
    done = subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False
    )
    return Ended(done.returncode, done.stdout + done.stderr, time.monotonic() - began)


@contextmanager
def serving(
    log: Path, *arguments: str, through: Sequence[str] = (), **environment: str
) -> Iterator[tuple[Target, subprocess.Popen[bytes]]]:
    """What it serves, once it says so; stopped afterwards as it says, unless it is gone.

    Args:
        log: file for what it says.
        through: a command that runs it.
    """
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*through, *command(*arguments, "--port", str(port))],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _UP_WITHIN_S
        while "stop it with" not in (said := log.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it did not start: {said}")
            time.sleep(0.2)
        yield Target(f"http://127.0.0.1:{port}", process.pid), process
        number = re.search(r"kill (\d+)", said)
        assert number
        os.kill(int(number[1]), signal.SIGTERM)
        assert process.wait(_STOPPED_WITHIN_S) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)
