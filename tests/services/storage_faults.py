"""Storage that cannot be read, also for root."""

from pathlib import Path

_NOTHING_THERE = Path("/proc/self/mem")
"""Of a process's memory its first byte, which no process has: reading it is an input/output error (EIO)."""


def unreadable(file: Path) -> bytes:
    """Have reading this file fail as a broken disk does; what was in it."""
    content = file.read_bytes() if file.is_file() else b""
    file.unlink(missing_ok=True)
    file.symlink_to(_NOTHING_THERE)
    return content


def readable(file: Path, content: bytes) -> None:
    """Have it read again."""
    file.unlink()
    file.write_bytes(content)
