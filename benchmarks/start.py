"""What a start of `rlad run` or `rlad serve` takes, and which processes' time.

    python -m benchmarks.start                            # kk-tiny-trrd, a step of 4 prompts
    python -m benchmarks.start --recipe my.yaml --repeats 3
    python -m benchmarks.start --serve teacher            # or rollout, verifier, all; with the tiny models

A run is there with the end of its first step, a service when its `/readyz` answers 200. Seconds of CPU are
those of the command and all that it starts, looked at twice a second, by what a process says it is. What the
command says on its way, which is what it waits for, is shown with its second.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import psutil
import typer
from rich.console import Console
from rich.table import Table

from services.base.ports import free_port
from services.cli.service_settings import SERVICES, SHIPPED_MODELS

_LIMIT_S = 600.0
_END_S = 120.0
_EVERY_S = 0.5
_ASK_S = 0.1
_LESS_S = 0.5
"""Processes that took less of the CPU are told together."""


class Watched:
    """CPU seconds of a process and its descendants, also of those that have ended."""

    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._seen: dict[tuple[int, float], tuple[str, float]] = {}

    def look(self) -> None:
        """Note what they have taken up to now."""
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                times, name = process.cpu_times(), _called(process)
            except psutil.Error:  # it has ended since
                continue
            self._seen[process.pid, process.create_time()] = name, times.user + times.system

    @property
    def seconds(self) -> dict[str, tuple[int, float]]:
        """How many processes of a name there were, and their seconds together; the longest first."""
        found: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        for name, seconds in self._seen.values():
            told = name if seconds >= _LESS_S else "others"
            count, together = found[told]
            found[told] = count + 1, together + seconds
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def _called(process: psutil.Process) -> str:
    words = process.cmdline() or [process.name()]
    said = words[0] if words[0].startswith(("ray::", "VLLM")) else Path(words[0]).name
    if said.startswith("python") and "-c" not in words:
        said = next((Path(word).name for word in words[1:] if not word.startswith("-")), said)
    # Names of replicas end in an id of their own, and Ray adds what an actor is doing.
    return re.sub(r"[#(].*|\.__init__$|\.[a-z_]+$", "", said).strip()


@dataclass(frozen=True)
class Start:
    """What one took.

    seconds: until it was there.
    cpu: how many processes of a name, and their CPU seconds together, until then.
    ended_after: seconds from being told to stop until it had ended.
    """

    seconds: float
    cpu: dict[str, tuple[int, float]]
    ended_after: float


def measure(
    command: Sequence[str], is_there: Callable[[], bool], stop: Callable[[int], None], console: Console
) -> Start:
    """Start a command, wait until it is there, and stop it.

    Args:
        command: the program and its arguments.
        is_there: asked ten times a second.
        stop: given the command's process id, which is that of its process group too.
        console: where the lines that it says go.

    Raises:
        typer.Exit: it ended before, or took longer than ten minutes.
        subprocess.TimeoutExpired: it did not end within two minutes; it is killed.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    teller = threading.Thread(target=_tell, args=(process, began, console), daemon=True)
    teller.start()
    watched, looked = Watched(psutil.Process(process.pid)), 0.0
    try:
        while not (there := is_there()) and process.poll() is None and time.monotonic() - began < _LIMIT_S:
            if time.monotonic() - looked > _EVERY_S:
                watched.look()
                looked = time.monotonic()
            time.sleep(_ASK_S)
        took = time.monotonic() - began
        if there:
            watched.look()
        told = time.monotonic()
        if process.poll() is None:
            stop(process.pid)
        process.wait(_END_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        teller.join(_EVERY_S)
    if not there:
        raise typer.Exit(1)
    return Start(took, watched.seconds, time.monotonic() - told)


def run_started(recipe: str, prompts: int, console: Console) -> Start:
    """A run until its first step is done; see `measure`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "services", "run", recipe, "--set", f"output.dir={folder}",
                   "--set", "name=start", "--set", f"rollout.prompts_per_step={prompts}"]  # fmt: skip
        steps = Path(folder) / "start" / "metrics.jsonl"
        return measure(command, lambda: _first(steps), lambda pid: os.kill(pid, signal.SIGTERM), console)


def service_started(service: str, console: Console) -> Start:
    """A service, or all, until each answers that it is ready; stopped as by Ctrl-C. See `measure`."""
    port = free_port()
    command = [sys.executable, "-m", "services", "serve", service, "--port", str(port)]
    if service in SHIPPED_MODELS:
        command += ["--model", SHIPPED_MODELS[service]]
    paths = [f"/{name}" for name in SERVICES] if service == "all" else [""]
    urls = [f"http://127.0.0.1:{port}{path}/readyz" for path in paths]
    return measure(
        command, lambda: all(map(_ready, urls)), lambda pid: os.killpg(pid, signal.SIGINT), console
    )


def _first(steps: Path) -> bool:
    line, is_whole, _ = steps.read_text().partition("\n") if steps.exists() else ("", "", "")
    return bool(is_whole) and "seconds" in json.loads(line)


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _tell(process: "subprocess.Popen[str]", began: float, console: Console) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        console.print(f"{time.monotonic() - began:6.1f} s  {line.rstrip()}", markup=False, highlight=False)


def main(
    recipe: Annotated[str, typer.Option(help="A file, or a recipe's name.")] = "kk-tiny-trrd",
    prompts: Annotated[int, typer.Option(min=1, help="Of a step.")] = 4,
    serve: Annotated[
        str, typer.Option(metavar="SERVICE", help="teacher, rollout, verifier or all, and no run.")
    ] = "",
    repeats: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Start the run or the service, stop it when it is there, and print where the time went."""
    if serve not in ("", "all", *SERVICES):
        raise typer.BadParameter(f"{serve!r} is no service; write {', '.join(SERVICES)} or all")
    console = Console(width=140)
    for _ in range(repeats):
        start = service_started(serve, console) if serve else run_started(recipe, prompts, console)
        together = sum(each for _, each in start.cpu.values())
        title = f"{start.seconds:.1f} s, {together:.1f} s of CPU; {start.ended_after:.1f} s to stop it"
        shown = Table("process", "of them", "CPU s", title=title)
        for name, (count, each) in start.cpu.items():
            shown.add_row(name, str(count), f"{each:.1f}")
        console.print(shown)


if __name__ == "__main__":
    typer.run(main)
