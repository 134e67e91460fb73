"""Programs of Prometheus and Alertmanager: those on PATH, else out of Debian's packages, without root."""

import os
import shutil
import subprocess
from pathlib import Path

_DOWNLOAD_S = 300.0
#: Debian's package -> its programs.
PROGRAMS = {
    "prometheus": ("prometheus", "promtool"),
    "prometheus-alertmanager": ("prometheus-alertmanager", "amtool"),
}


class MissingError(RuntimeError):
    """The programs are not here, and there is no way to get them; the message says why."""


def cache() -> Path:
    """Where the packages are unpacked: ``rlad/prometheus`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "rlad" / "prometheus"


def executables(package: str = "prometheus") -> dict[str, Path]:
    """Paths of a package's programs, by name; see `PROGRAMS`.

    Raises:
        MissingError: they are not on PATH, and this is no Debian or its package cannot be fetched.
    """
    programs = PROGRAMS[package]
    on_path = {name: shutil.which(name) for name in programs}
    if all(on_path.values()):
        return {name: Path(str(path)) for name, path in on_path.items()}
    unpacked = {name: cache() / "usr" / "bin" / name for name in programs}
    if not all(path.exists() for path in unpacked.values()):
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            named = " and ".join(programs)
            raise MissingError(f"{named} are not on PATH, and there is no apt-get to fetch them")
        _unpack(package, cache())
    return unpacked


def _unpack(package: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    download = ["apt-get", "download", package]
    failure = _failure(download, folder)
    if failure and os.geteuid() == 0:  # a fresh container has no package lists
        failure = _failure(["apt-get", "update"], folder) or _failure(download, folder)
    if failure:
        raise MissingError(f"Debian's {package} cannot be fetched: {failure}")
    file = max(folder.glob(f"{package}_*.deb"))
    if failure := _failure(["dpkg", "-x", file.name, "."], folder):
        raise MissingError(f"{file} cannot be unpacked: {failure}")
    file.unlink()


def _failure(command: list[str], folder: Path) -> str:
    """What a command complains of; nothing if it succeeds."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False
    )
    return f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}" if done.returncode else ""
