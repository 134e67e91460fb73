"""Where a run under fire lives: a disk that can be full, a clock that can jump, a teacher elsewhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.elsewhere import ServedTeacher, served_teacher
from tests.chaos.faults import ELSEWHERE, LINE, TO_THE_SURROUNDINGS
from tests.chaos.line import Line

STUBS = Path(__file__).parent / "stubs"
_DISK_MIB = 96
_LATENCY_S = 3.0
_JUMPS_S = (26 * 3600, -26 * 3600)


@dataclass
class Surroundings:
    """folder: for the runs. missing: what cannot be done here, and why. line: to the teacher elsewhere, where
    there is one.
    """

    folder: Path
    missing: dict[str, str] = field(default_factory=dict)
    line: Line | None = None
    teacher: ServedTeacher | None = None
    jumps: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Of a run with faults: steps of some seconds, so that it is not through before they are done."""
        return {**environment(self._clock), "CHAOS_LATENCY_S": str(_LATENCY_S)}

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


def environment(clock: Path | None = None) -> dict[str, str]:
    """With the stubs in the place of engines, and a clock of its own where there is a file for it."""
    path = os.pathsep.join(filter(None, (str(STUBS), os.environ.get("PYTHONPATH", ""))))
    # libfaketime, as of 0.9.10, has Python's `sleep` fail and its timed locks wait for ever.
    own = {} if clock is None else {"CHAOS_CLOCK": str(clock)}
    return {**os.environ, "PYTHONPATH": path, **own}


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
            made.teacher = stack.enter_context(served_teacher(folder / "teacher.log", environment()))
            made.line = Line(made.teacher.port)
            stack.callback(made.line.close)
            made.missing["teacher replica"] = "the teacher is elsewhere"
        else:
            made.missing |= dict.fromkeys((LINE, *ELSEWHERE), "the teacher is the run's own")
        yield made
