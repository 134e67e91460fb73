"""Tasks: where prompts come from and how responses to them are judged.

In: a section of a recipe; a response and its gold. Out: prompts; a `Verdict`. Called by: `prompt_stream`, and
the verifier's worker processes.

A shipped task is a folder: `settings.py` with the class `Settings`, its section in a recipe, and what that
leads to. A folder that is put here is one more; a user's own task is named by its place instead (`own`).
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from typing import Annotated, Any

from rlad_core.sections import code
from rlad_core.sections.chosen import Chosen
from rlad_core.tasks.base import Prompt, Task, TaskSpec, Verdict, complete
from rlad_core.tasks.own import OwnTask
from rlad_core.tasks.section import Asked, Part, TaskSection

__all__ = [
    "DEFAULT",
    "SECTIONS",
    "AnyTask",
    "Asked",
    "OwnTask",
    "Part",
    "Prompt",
    "Task",
    "TaskSection",
    "TaskSpec",
    "Verdict",
    "example",
    "own_task",
    "section_of",
    "shipped",
    "write_untrained",
]


def _sections() -> dict[str, type[TaskSection]]:
    return {
        folder.name: importlib.import_module(f"{__name__}.{folder.name}.settings").Settings
        for folder in pkgutil.iter_modules(__path__)
        if folder.ispkg
    }


SECTIONS = _sections()
"""Shipped task -> its section in a recipe."""
DEFAULT = next(iter(SECTIONS))
"""What is evaluated where nobody says."""


def _own(place: str) -> type[TaskSection]:
    return OwnTask  # which tells what is wrong with the class, with the settings in sight


AnyTask = Annotated[TaskSection, Chosen(key="name", known=SECTIONS, own=_own)]
"""A recipe's task: one of `SECTIONS`, or a user's class by its place."""


def shipped() -> dict[str, TaskSpec]:
    """The shipped tasks that can judge without settings, by name."""
    return {name: section.judges_alone for name, section in SECTIONS.items() if section.judges_alone}


def example() -> str:
    """The body of a request that asks a verifier to judge by a shipped task, as JSON."""
    return next(section.judged_example for section in SECTIONS.values() if section.judged_example)


def own_task(place: str) -> tuple[str, TaskSpec]:
    """A user's task that judges without a recipe: its name, and how it is made.

    Args:
        place: of a task's class without arguments, or of a function that a recipe's `reward` may name.

    Raises:
        CodeError: there is nothing of that name, or the file does not run.
        TypeError: it is neither of the two.
    """
    made = code.load(place)
    if isinstance(made, type):
        return complete(made, code.name_in(place)).name, TaskSpec(place, {})
    if not callable(made):
        raise TypeError(f"{code.name_in(place)} is neither a task's class nor a function")
    return code.name_in(place), SECTIONS["prompts"].model_validate({"reward": place}).judge()


def section_of(name: str, asked: Asked) -> dict[str, Any]:
    """The section of a recipe that evaluates what a person asked for.

    Args:
        name: of a shipped task, or the place of a user's class.

    Raises:
        ValueError: there is no such task, or it cannot be asked for so.
    """
    section = SECTIONS.get(name, OwnTask if ":" in name else None)
    if section is None:
        raise ValueError(f"{name!r} is unknown; write {', '.join(SECTIONS)}, or file.py:Name")
    return section.asked(name, asked)


def write_untrained(size: str, folder: Path) -> Path:
    """Write config.json and tokenizer of an untrained tiny model, ``tiny:SIZE`` in a recipe.

    Tiny models read the words of one task, so that task makes them.

    Raises:
        ValueError: there is no such size.
    """
    for name in SECTIONS:
        if importlib.util.find_spec(f"{__name__}.{name}.tiny") is not None:
            made: Path = importlib.import_module(f"{__name__}.{name}.tiny").write_untrained(size, folder)
            return made
    raise ValueError("no task makes tiny models")
