"""The processes of a run: all of the session that its driver began."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

import psutil

_ENDS_WITHIN_S = 60.0
_GONE_WITHIN_S = 20.0


def end_session(driver: subprocess.Popen[bytes]) -> int:
    """End the driver if it lives, and wait for what it started; how many had to be killed then."""
    members = [each for each in psutil.process_iter() if _session(each.pid) == driver.pid]
    if driver.poll() is None:
        driver.terminate()
        with suppress(subprocess.TimeoutExpired):
            driver.wait(_ENDS_WITHIN_S)
    _, alive = psutil.wait_procs(members, timeout=_GONE_WITHIN_S)
    # What was started meanwhile, and has no living parent in the session that would end it.
    alive = list({*alive, *(each for each in psutil.process_iter() if _session(each.pid) == driver.pid)})
    for each in alive:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(alive, timeout=_GONE_WITHIN_S)
    return len(alive)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1
