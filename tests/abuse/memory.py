"""The most memory that a process had since somebody began to look."""

from pathlib import Path

import psutil


def forget_peak(process: psutil.Process) -> None:
    """From now on."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak(process: psutil.Process) -> int:
    """Bytes that the process had at most since then."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(kib)
