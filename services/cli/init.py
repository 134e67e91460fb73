"""The folder that a run of one's own begins with: what a task brings to copy, under the run's name.

A task's folder has it in ``starter/``; wherever its recipe and its README write NAME, the run's name comes.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import rlad_core.tasks
from rlad_core.sections.base import NAME_LENGTH
from rlad_core.tasks import SECTIONS

RECIPE = "recipe.yaml"
DEFAULT = "prompts"
"""The task that needs least of one's own."""
_PLACEHOLDER = "NAME"
_NAMED = (".yaml", ".md")


class InitError(Exception):
    """The folder cannot be written; the message is for the person who asked."""


def starters() -> dict[str, Path]:
    """What there is to begin with, by task."""
    folders = {task: Path(str(files(rlad_core.tasks)), task, "starter") for task in SECTIONS}
    return {task: folder for task, folder in folders.items() if (folder / RECIPE).is_file()}


def run_name(folder: Path) -> str:
    """The folder's name as the name of a run.

    Raises:
        InitError: nothing of it can stand in one.
    """
    said = folder.absolute().resolve().name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", said).strip("._-")
    if not name:
        raise InitError(f"{said!r} has no letter (a to z) or digit for the name of a run. Write another name")
    return name[:NAME_LENGTH]


def write(folder: Path, task: str) -> list[Path]:
    """Write a task's starter into a folder that is new or empty; the files, relative to it.

    Raises:
        InitError: there is no such task, the folder is in the way, or it cannot be written.
    """
    try:
        return _write(folder, task)
    except OSError as error:
        raise InitError(f"{folder} cannot be written ({error.strerror}). Write another place") from error


def _write(folder: Path, task: str) -> list[Path]:
    known = starters()
    if task not in known:
        raise InitError(f"--task: {task!r} is unknown. Write {', '.join(known)}")
    if folder.exists() and not folder.is_dir():
        raise InitError(f"{folder} is a file. Write another name")
    if folder.exists() and any(folder.iterdir()):
        raise InitError(f"{folder} exists already and is not empty. Write another name")
    name, source = run_name(folder), known[task]
    written = [
        path.relative_to(source)
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    for file in written:
        text = (source / file).read_text(encoding="utf-8")
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        named = text.replace(_PLACEHOLDER, name) if file.suffix in _NAMED else text
        (folder / file).write_text(named, encoding="utf-8")
    return written
