"""Tasks: where prompts come from and how responses to them are judged. `task` finds one by its name."""

from __future__ import annotations

from rlad_core.tasks.base import Prompt, Task, Verdict
from rlad_core.tasks.knights_knaves.task import KnightsKnaves

__all__ = ["Prompt", "Task", "Verdict", "task"]

_TASKS: dict[str, Task] = {KnightsKnaves.name: KnightsKnaves()}


def task(name: str) -> Task:
    """The task that recipes and the column `task` call `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in _TASKS:
        raise ValueError(f"task {name!r} is unknown; write one of {', '.join(_TASKS)}")
    return _TASKS[name]
