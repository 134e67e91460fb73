"""Tasks: where prompts come from and how responses to them are judged. `task` finds one by its name."""

from __future__ import annotations

from rlad_core.tasks.base import Prompt, Task, Verdict
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from rlad_core.tasks.math.task import Math

__all__ = ["Math", "Prompt", "Task", "Verdict", "task"]

_TASKS: dict[str, Task] = {each.name: each for each in (KnightsKnaves(), Math())}


def task(name: str) -> Task:
    """The task that recipes and the column `task` call `name`; enough to judge responses.

    Prompts of `math` come from data files: `Math(files)`, as `rlad_core.prompts` makes it for a recipe.

    Raises:
        ValueError: there is none.
    """
    if name not in _TASKS:
        raise ValueError(f"task {name!r} is unknown; write one of {', '.join(_TASKS)}")
    return _TASKS[name]
