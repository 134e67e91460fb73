"""What a start of `rlad run` takes: from the command to the end of its first step, and which processes' time.

    python -m benchmarks.start                            # kk-tiny-trrd, a step of 4 prompts
    python -m benchmarks.start --recipe my.yaml --repeats 3

Seconds of CPU are those of the command and all that it starts, looked at twice a second, by what a process
says it is. What the run says on its way is shown with its second.
"""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

_LIMIT_S = 600.0
_EVERY_S = 0.5
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
    if said.startswith("python"):
        said = next((Path(word).name for word in words[1:] if not word.startswith("-")), said)
    # Names of replicas end in an id of their own, and Ray adds what an actor is doing.
    return re.sub(r"[#(].*|\.__init__$|\.[a-z_]+$", "", said).strip()


def measure(recipe: str, prompts: int, console: Console) -> tuple[float, dict[str, tuple[int, float]]]:
    """Seconds until the first step is done, and the CPU's by process.

    Raises:
        typer.Exit: the run failed, or took longer than ten minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "services", "run", recipe, "--set", f"output.dir={folder}",
                   "--set", "name=start", "--set", f"rollout.prompts_per_step={prompts}"]  # fmt: skip
        began = time.monotonic()
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        teller = threading.Thread(target=_tell, args=(run, began, console), daemon=True)
        teller.start()
        watched, steps = Watched(psutil.Process(run.pid)), Path(folder) / "start" / "metrics.jsonl"
        while run.poll() is None and not _first(steps) and time.monotonic() - began < _LIMIT_S:
            watched.look()
            time.sleep(_EVERY_S)
        took, done = time.monotonic() - began, _first(steps)
        run.terminate()
        run.wait(timeout=120)
        if not done:
            raise typer.Exit(1)
        return took, watched.seconds


def _first(steps: Path) -> bool:
    return steps.exists() and "seconds" in json.loads(steps.read_text().partition("\n")[0] or "{}")


def _tell(run: "subprocess.Popen[str]", began: float, console: Console) -> None:
    assert run.stdout is not None
    for line in run.stdout:
        console.print(f"{time.monotonic() - began:6.1f} s  {line.rstrip()}", markup=False, highlight=False)


def main(
    recipe: Annotated[str, typer.Option(help="A file, or a recipe's name.")] = "kk-tiny-trrd",
    prompts: Annotated[int, typer.Option(min=1, help="Of a step.")] = 4,
    repeats: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Start the run, stop it after its first step, and print where the time went."""
    console = Console(width=140)
    for _ in range(repeats):
        took, seconds = measure(recipe, prompts, console)
        together = sum(each for _, each in seconds.values())
        shown = Table("process", "of them", "CPU s", title=f"{took:.1f} s, {together:.1f} s of CPU")
        for name, (count, each) in seconds.items():
            shown.add_row(name, str(count), f"{each:.1f}")
        console.print(shown)


if __name__ == "__main__":
    typer.run(main)
