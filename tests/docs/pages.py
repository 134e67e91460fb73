"""What a page of docs/ holds: files with their names, and commands with what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A line after ``$``, and the lines below it."""

    line: str
    output: list[str]


def page(name: str) -> str:
    """The text of a page."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """The text below each heading of the second level, by heading."""
    _, *parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def files(text: str) -> dict[str, str]:
    """What stands in the blocks that a line with a file's name leads in, by that name."""
    return dict(_FILE.findall(text))


def commands(block: str) -> list[Command]:
    """The commands of a console block."""
    found: list[Command] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        elif line:
            found[-1].output.append(line)
    return found


def parts(text: str) -> list[tuple[str, str] | Command]:
    """Files, as name and text, and commands, in the page's order."""
    blocks: list[tuple[int, list[tuple[str, str] | Command]]] = [
        (found.start(), [(found[1], found[2])]) for found in _FILE.finditer(text)
    ]
    blocks += [(found.start(), [*commands(found[1])]) for found in _CONSOLE.finditer(text)]
    return [part for _, several in sorted(blocks, key=lambda block: block[0]) for part in several]


def run(line: str, folder: Path, *, limit_s: float = 600.0) -> tuple[int, str]:
    """Exit code and output of a shell's line, with the `rlad` and `python` of these tests."""
    there = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, **there},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
    )
    return done.returncode, done.stdout


def plain(line: str) -> str:
    """A line without what differs from run to run: numbers, and what takes more room where they do."""
    line = re.sub(r"(?:(?<!\w)[-+])?\d[\d.,]*", "#", line)
    line = re.sub(r"[─━]+", "─", line)
    return " ".join(line.split())


def check_shown(command: Command, printed: list[str]) -> None:
    """Every line that is shown is printed, in this order; others only where the page says ``...``."""
    actual = [plain(line) for line in printed if line.strip()]
    place, left_out = 0, False
    for line in command.output:
        if line == "...":
            left_out = True
            continue
        shown, beginning = plain(line.removesuffix("...")), line.endswith("...")
        fits = [a.startswith(shown) if beginning else a == shown for a in actual[place:]]
        assert any(fits if left_out else fits[:1]), (command.line, line, printed)
        place, left_out = place + fits.index(True) + 1, False
    assert left_out or place == len(actual), (command.line, printed[place:])
