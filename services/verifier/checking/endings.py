"""How a process ended, in words: by what, and why, where that can be known."""

import errno
import signal
from pathlib import Path

_CAUSES = {
    signal.SIGXCPU: "its limit of processor time, ulimit -t",
    signal.SIGXFSZ: "its limit of file size, ulimit -f",
    signal.SIGBUS: "memory that is not there; /dev/shm or a disk may be full",
}
_LIMITS = {
    errno.EAGAIN: "no more processes are allowed: see ulimit -u, and pids.max of a container",
    errno.ENOMEM: "there is no memory for one more, or ulimit -v does not allow it",
    errno.EMFILE: "see ulimit -n",
    errno.EFBIG: "see ulimit -f",
}
_OUT_OF_MEMORY = "by the kernel, which was out of memory"


def how_it_ended(code: int | None, kills_before: int | None) -> str:
    """What ended a process.

    Args:
        code: exit code; below 0 a signal's number; None: it cannot be had.
        kills_before: `kills_for_memory` when it still ran.
    """
    if code is None:
        return "an unknown exit code"
    if code >= 0:
        return f"exit code {code}"
    number = signal.Signals(-code)
    cause = _CAUSES.get(number)
    if number is signal.SIGKILL and kills_before is not None and (kills_for_memory() or 0) > kills_before:
        cause = _OUT_OF_MEMORY
    return number.name + (f" ({cause})" if cause else "")


def what_hinders(error: OSError) -> str:
    """Why a process cannot be started."""
    limit = _LIMITS.get(error.errno or 0)
    return f"{error.strerror or error}{f' ({limit})' if limit else ''}"


def kills_for_memory() -> int | None:
    """Processes of this machine that the kernel has killed for want of memory; None: it does not say."""
    try:
        counters = Path("/proc/vmstat").read_text()
    except OSError:
        return None
    for line in counters.splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return None


def last_words(written: bytes) -> str:
    """The last line that is not empty, for the end of a sentence; "" where there is none."""
    lines = written.decode("utf-8", "replace").split("\n")
    return next((f"; its last words were: {line.strip()}" for line in reversed(lines) if line.strip()), "")
