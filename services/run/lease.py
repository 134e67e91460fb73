"""Who works on the folder of a run or a comparison: one process at a time, on whichever host, as far as the
storage is shared.

    runs/NAME/lease/000003.json     the third owner: who it is, and a count that rises every few seconds

The file with the highest number is the lease. Its owner counts up in it; who wants it and sees the count
stand still for `LAPSE_S`, on its own clock, makes the next number. Files appear whole and under a name that
did not exist (a hard link), so of several takers one wins. The file of an owner that ends is marked, and not
taken away: a number that could come back would let two of them win.

No two clocks are compared, and a process is only looked for where it would be seen: on this machine since its
last start, in this namespace of process ids. There a dead owner is known at once, and a living one kept,
however long it is silent.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FOLDER = "lease"
BEAT_S, LAPSE_S = 10.0, 60.0
_LOOK_S = 0.5
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SEES_PROCESSES = _BOOT.exists() and os.path.lexists("/proc/self/ns/pid")
_TRIES = 5


class HeldError(Exception):
    """Another process works on the folder; the message says which, without a full stop: callers go on."""


@dataclass(frozen=True)
class Owner:
    """A process, as others can know it."""

    id: str
    host: str
    pid: int
    since: str
    """UTC, for people."""
    machine: str
    """Since its last start, and its namespace of process ids: where both agree, ``pid`` can be looked up."""
    began: int
    """Of the process, in clock ticks since the machine's start: process ids come again."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def lives(self) -> bool | None:
        """Whether the process is there; None where it cannot be seen from here."""
        if self.machine != _machine():
            return None
        try:
            state, began = _process(self.pid)
        except OSError:
            return False
        return began == self.began and state not in ("Z", "X")


class Lease:
    """The lease that this process has; `lost` once another process has taken it."""

    def __init__(self, file: Path, owner: Owner) -> None:
        self._file, self._owner = file, owner
        self._beats = 0
        self._ended = threading.Event()
        self._taken_by: str | None = None

    @property
    def lost(self) -> str | None:
        """Who has taken it while this process did not count; None: nobody."""
        return self._taken_by

    def begin(self, beat_s: float) -> None:
        """Count up, until `end`."""
        self._thread = threading.Thread(target=self._beat, args=(beat_s,), name="lease", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let others have it."""
        self._ended.set()
        self._thread.join(BEAT_S)
        # Storage that hangs is not waited for: others see that the count stands still.
        if self._taken_by is None and not self._thread.is_alive():
            with suppress(OSError):
                self._write(ended=True)

    def _beat(self, beat_s: float) -> None:
        while not self._ended.wait(beat_s):
            # Storage that fails for a while is the run's to complain of; whether the lease is still ours is
            # seen when it comes back.
            with suppress(OSError):
                if (newer := _newest(self._file.parent)) and newer != self._file:
                    self._taken_by = str(_owner(_read(newer)) or "another process")
                    return
                self._beats += 1
                self._write()

    def _write(self, *, ended: bool = False) -> None:
        """Into the file itself, never under a new name: a number that was taken away stays away."""
        with self._file.open("r+b") as file:
            file.write(_content(self._owner, self._beats, ended))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def leased(
    run_dir: Path,
    say: Callable[[str], None] = lambda _: None,
    *,
    beat_s: float = BEAT_S,
    lapse_s: float = LAPSE_S,
) -> Iterator[Lease]:
    """The lease of a folder, a run's or a comparison's, until the block ends.

    Args:
        run_dir: is made, if need be.
        say: told when it is waited for, and from whom it is taken.
        beat_s: seconds between two counts.
        lapse_s: without one, after which the owner counts as gone.

    Raises:
        HeldError: another process has it, or was faster.
        OSError: the folder cannot be written.
    """
    folder = run_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    owner = _this_process()
    file = _taken(folder, owner, say, lapse_s)
    lease = Lease(file, owner)
    lease.begin(beat_s)
    try:
        yield lease
    finally:
        lease.end()
        with suppress(OSError):  # what ended the block is told, also where somebody took the folder away
            if list(run_dir.iterdir()) == [folder]:  # the run was refused, and leaves nothing
                file.unlink()
                folder.rmdir()
                run_dir.rmdir()


def _taken(folder: Path, owner: Owner, say: Callable[[str], None], lapse_s: float) -> Path:
    """The file of the new lease."""
    for _ in range(_TRIES):
        number = 0
        if (newest := _newest(folder)) is not None:
            _wait_until_free(newest, say, lapse_s)
            number = int(newest.stem)
        file = folder / f"{number + 1:06d}.json"
        try:
            _create(file, _content(owner, 0, False))
        except FileExistsError:
            continue  # somebody was faster
        if _newest(folder) != file:  # what a slow file system showed before was old
            file.unlink(missing_ok=True)
            continue
        for older in folder.glob("*.json"):
            if older.stem.isdecimal() and int(older.stem) < number:
                older.unlink(missing_ok=True)
        return file
    raise HeldError(_held(folder.parent, None))


def _wait_until_free(file: Path, say: Callable[[str], None], lapse_s: float) -> None:
    """Return when its owner has ended or is gone.

    Raises:
        HeldError: it is at work.
    """
    seen = _read(file)
    if _has_ended(seen):
        return
    owner = _owner(seen)
    lives = owner.lives if owner else None
    if lives:
        raise HeldError(_held(file.parents[1], owner))
    if lives is None:
        say(
            f"{file.parents[1]} was left to {owner or 'a process that did not say who it is'}; waiting "
            f"{lapse_s:g} s for a sign of life"
        )
        deadline = time.monotonic() + lapse_s
        while time.monotonic() < deadline:
            time.sleep(min(_LOOK_S, lapse_s / 4))
            now = _read(file)
            if _has_ended(now):
                return
            if now != seen:
                raise HeldError(_held(file.parents[1], _owner(now)))
    say(f"taking over {file.parents[1]} from {owner or 'a process'}, which is gone")


def at_work(run_dir: Path) -> tuple[str, int] | None:
    """Who works on a folder, and how often that process has counted: standing still, it may be gone.

    None where nobody does: the lease was given back, its owner is known to be dead, or there is none.
    """
    newest = _newest(run_dir / FOLDER)
    content = _read(newest) if newest is not None else b""
    owner, beats = _owner(content), _fields(content).get("beats")
    if owner is None or _has_ended(content) or owner.lives is False:
        return None
    return str(owner), beats if isinstance(beats, int) else 0


def _held(run_dir: Path, owner: Owner | None) -> str:
    return (
        f"{run_dir} is being worked on by {owner or 'another process'}. Stop it first (Ctrl-C or SIGTERM: it "
        "ends its step, with a checkpoint)"
    )


def _create(file: Path, content: bytes) -> None:
    """Raises FileExistsError: it is there."""
    part = file.with_name(f"{uuid.uuid4().hex}.part")
    part.write_bytes(content)
    try:
        os.link(part, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with file.open("xb") as new:
            new.write(content)
    finally:
        part.unlink(missing_ok=True)


def _newest(folder: Path) -> Path | None:
    return max((file for file in folder.glob("*.json") if file.stem.isdecimal()), default=None)


def _content(owner: Owner, beats: int, ended: bool) -> bytes:
    return json.dumps({**asdict(owner), "beats": beats, "ended": ended}).encode()


def _read(file: Path) -> bytes:
    with suppress(OSError):  # gone, or the storage hesitates: nothing new is seen
        return file.read_bytes()
    return b""


def _fields(content: bytes) -> dict[str, object]:
    with suppress(ValueError):
        fields = json.loads(content)
        return fields if isinstance(fields, dict) else {}
    return {}


def _has_ended(content: bytes) -> bool:
    return _fields(content).get("ended") is True


def _owner(content: bytes) -> Owner | None:
    fields = _fields(content)
    with suppress(KeyError, TypeError):
        return Owner(**{name: fields[name] for name in Owner.__dataclass_fields__})  # type: ignore[arg-type]
    return None


def _this_process() -> Owner:
    return Owner(
        id=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=_machine(),
        began=_process(os.getpid())[1] if _SEES_PROCESSES else 0,
    )


def _machine() -> str:
    """What two processes must share to see each other's process ids."""
    if not _SEES_PROCESSES:
        return uuid.uuid4().hex
    boot = _BOOT.read_text().strip()
    return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"


def _process(pid: int) -> tuple[str, int]:
    """State and time of start of a process, see proc_pid_stat(5).

    Raises:
        OSError: there is none.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])
