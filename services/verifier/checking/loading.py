"""Making tasks from what names them. A user's code runs where this is called: only in worker processes."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rlad_core.sections import code
from rlad_core.tasks.base import Task, TaskSpec, check_calls, complete

_OURS = "rlad_core."


class LoadError(ValueError):
    """A task cannot be made; names it, and a user's file and line."""


def is_ours(spec: TaskSpec) -> bool:
    """Whether making the task runs no user's code."""
    return spec.place.startswith(_OURS)


def load(name: str, spec: TaskSpec) -> Task:
    """The task that is judged under this name.

    Raises:
        LoadError: there is no such class, it is no task, or it does not take these settings.
    """
    try:
        made = code.load(spec.place)
        task: Task = (made if is_ours(spec) else complete(made, name))(**spec.settings)
        if not is_ours(spec):
            check_calls(task)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise LoadError(f"task {name!r}: {code.fault(error)}") from error
    return task


def warm_up(name: str, task: Task) -> None:
    """Have the task load now what its checks need, outside of their time limit.

    Raises:
        LoadError: it cannot.
    """
    try:
        task.warm_up()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise LoadError(f"task {name!r}: {code.fault(error)}") from error


def users_file(spec: TaskSpec, task: Task | None = None) -> str | None:
    """The file with a user's code that a task runs: its own, or one that its settings name.

    Args:
        task: made from the specification; without it a module's file is not known.
    """
    for text in (spec.place, *spec.settings.values()):
        if code.is_place(text) and text.rpartition(":")[0].endswith(".py"):
            return str(text.rpartition(":")[0])
    if task is None or is_ours(spec):
        return None
    return getattr(sys.modules.get(type(task).__module__), "__file__", None)


def preloaded(tasks: Mapping[str, TaskSpec]) -> list[str]:
    """Modules to be imported once, before worker processes are forked: never a user's, unless they say so."""
    return list(dict.fromkeys(_preloaded(tasks.values())))


def folders(tasks: Mapping[str, TaskSpec], sources: Mapping[str, str]) -> frozenset[str]:
    """Folders of the files with users' code that are known without loading it."""
    files = [*sources, *filter(None, (users_file(spec) for spec in tasks.values()))]
    return frozenset(str(Path(file).parent) for file in files)


def _preloaded(specs: Iterable[TaskSpec]) -> Iterator[str]:
    for spec in specs:
        if spec.preload:
            yield spec.preload
        elif is_ours(spec):
            yield spec.place.rpartition(":")[0]
