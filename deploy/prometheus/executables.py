"""The programs prometheus and promtool: those on PATH, else out of Debian's package, which needs no root."""

import os
import shutil
import subprocess
from pathlib import Path

_DOWNLOAD_S = 300.0
PROGRAMS = ("prometheus", "promtool")


class MissingError(RuntimeError):
    """There is no Prometheus, and no way to get one; the message says why."""


def cache() -> Path:
    """Where the package is unpacked: ``rlad/prometheus`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "rlad" / "prometheus"


def executables() -> dict[str, Path]:
    """Paths of `PROGRAMS`, by name.

    Raises:
        MissingError: they are not on PATH, and this is no Debian or its package cannot be fetched.
    """
    on_path = {name: shutil.which(name) for name in PROGRAMS}
    if all(on_path.values()):
        return {name: Path(str(path)) for name, path in on_path.items()}
    unpacked = {name: cache() / "usr" / "bin" / name for name in PROGRAMS}
    if not all(path.exists() for path in unpacked.values()):
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise MissingError(
                "prometheus and promtool are not on PATH, and there is no apt-get to fetch them"
            )
        _unpack(cache())
    return unpacked


def _unpack(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    download = ["apt-get", "download", "prometheus"]
    failure = _failure(download, folder)
    if failure and os.geteuid() == 0:  # a fresh container has no package lists
        failure = _failure(["apt-get", "update"], folder) or _failure(download, folder)
    if failure:
        raise MissingError(f"Debian's prometheus cannot be fetched: {failure}")
    package = max(folder.glob("prometheus_*.deb"))
    if failure := _failure(["dpkg", "-x", package.name, "."], folder):
        raise MissingError(f"{package} cannot be unpacked: {failure}")
    package.unlink()


def _failure(command: list[str], folder: Path) -> str:
    """What a command complains of; nothing if it succeeds."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False
    )
    return f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}" if done.returncode else ""
