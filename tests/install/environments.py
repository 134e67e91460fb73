"""Environments outside the checkout with rlad's wheel in them, and commands in them."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder)}))

    def rlad(self, *arguments: str) -> list[str]:
        """The command line of `rlad` as a user types it."""
        return [str(self.folder / "bin" / "rlad"), *arguments]

    def pip(self, *arguments: str, limit_s: float = 400) -> None:
        """This environment's packages, by the pip of the one that the tests run in."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def create(folder: Path) -> Environment:
    """An empty environment, of the same Python and without pip."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    return Environment(folder)


def build_wheel(folder: Path) -> Path:
    """rlad's wheel, of a copy of the sources, so that nothing is left behind in the checkout."""
    source = folder / "source"
    for name in ("rlad_core", "services", "deploy", "k8s/base"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(source)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("rlad-*.whl")
    return built


def users_environment(**more: str) -> dict[str, str]:
    """Variables of a shell that knows nothing of this checkout and its tests."""
    ours = ("PYTHON", "RAY_", "RLAD_", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "COLUMNS": "200", **more}


def carry_out(
    command: list[str], folder: Path, *, limit_s: float = 120, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """A command in a folder, which ends with this exit code."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=users_environment(),
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done
