"""Where a run under fire lives: a disk that can be full, a clock that can jump, a teacher elsewhere."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.faults import LINE, TO_THE_SURROUNDINGS
from tests.chaos.line import Line

STUBS = Path(__file__).parent / "stubs"
_DISK_MIB = 96
_JUMPS_S = (26 * 3600, -26 * 3600)
_TEACHER_UP_S = 180.0


@dataclass
class Surroundings:
    """folder: for the runs. missing: what cannot be done here, and why. line: to the teacher elsewhere."""

    folder: Path
    missing: dict[str, str] = field(default_factory=dict)
    line: Line | None = None
    jumps: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Of a run with faults: the stubs, and a clock of its own."""
        path = os.pathsep.join(filter(None, (str(STUBS), os.environ.get("PYTHONPATH", ""))))
        # libfaketime, as of 0.9.10, has Python's `sleep` fail and its timed locks wait for ever.
        return {**os.environ, "PYTHONPATH": path, "CHAOS_CLOCK": str(self._clock)}

    def begin(self, kind: str) -> None:
        """The disk is full, the clock has jumped, the line is bad."""
        if kind == "disk":
            free = os.statvfs(self.folder)
            with self._ballast.open("wb") as file, suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize))
        elif kind == "clock":
            self._clock.write_text(str(_JUMPS_S[self.jumps % len(_JUMPS_S)]))
            self.jumps += 1
        else:
            assert self.line is not None
            self.line.set(kind)

    def end(self, kind: str) -> None:
        """As before."""
        if kind == "disk":
            self._ballast.unlink(missing_ok=True)
        elif kind == "clock":
            self._clock.write_text("0")
        elif self.line is not None:
            self.line.set("open")

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    @property
    def _clock(self) -> Path:
        return self.folder.parent / "clock"


@contextmanager
def surroundings(folder: Path, *, teacher: bool) -> Iterator[Surroundings]:
    """A new folder ``runs`` in ``folder``, on a disk of its own where this process may make one.

    Args:
        teacher: serve one, in a process and a Ray of its own, behind a line.
    """
    made = Surroundings(folder / "runs")
    made.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        disk = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "chaos", str(made.folder)]
        if os.geteuid() == 0 and subprocess.run(disk, check=False, capture_output=True).returncode == 0:
            stack.callback(subprocess.run, ["umount", "-l", str(made.folder)], check=False)
        else:
            made.missing[TO_THE_SURROUNDINGS["disk"]] = "only root may mount a disk that is full"
        made.end("clock")
        if teacher:
            made.line = Line(stack.enter_context(_served_teacher(folder / "teacher.log")))
            stack.callback(made.line.close)
            made.missing["teacher replica"] = "the teacher is elsewhere"
        else:
            made.missing[LINE] = "the teacher is the run's own"
        yield made


@contextmanager
def _served_teacher(log: Path) -> Iterator[int]:
    """`rlad serve teacher` with a stub as its engine; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "services", "serve", "teacher", "--model", "rlad:kk-teacher"]
    with log.open("w") as said:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=said,
            stderr=said,
            env=Surroundings(log.parent).environment,
        )
    try:
        deadline = time.monotonic() + _TEACHER_UP_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the teacher does not start: {log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
