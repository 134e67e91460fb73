"""A task of a user's own in a recipe: ``task: {name: my_tasks.py:Riddles}``."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, ValidationInfo, model_validator

from rlad_core.sections import code
from rlad_core.sections.base import Section
from rlad_core.sections.findings import refusal
from rlad_core.sections.paths import FOLDER, CodePlace, Typed, expanded, folder_of, was_checked
from rlad_core.sections.problems import Problem
from rlad_core.tasks.base import Task, TaskSpec, check_calls, complete
from rlad_core.tasks.returned import excerpt
from rlad_core.tasks.section import Asked, Part, TaskSection


def _with_paths(value: Any, info: ValidationInfo) -> Any:
    """Where the code runs neither the recipe's folder nor the code's own is the current one."""
    if isinstance(value, dict):
        return {key: _with_paths(each, info) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_paths(each, info) for each in value]
    return _path(value, info) if isinstance(value, str) else value


def _path(text: str, info: ValidationInfo) -> str:
    """The absolute path of a file, or of a folder written as one; any other text as it is.

    Only where a recipe is read or typed: a checked one, read again elsewhere, has its paths already.
    """
    if not isinstance(text, Typed) and FOLDER not in (info.context or {}):
        return text
    path = folder_of(text, info) / expanded(text)
    try:
        names = path.is_file() or ("/" in text and path.is_dir())
    except (OSError, ValueError):  # too long for a path, or not one
        return text
    return str(path.absolute()) if names else text


def _subsets(made: Task) -> tuple[str, ...]:
    subsets = made.subsets
    if not isinstance(subsets, list | tuple) or not subsets or not all(isinstance(s, str) for s in subsets):
        raise TypeError(f"its subsets are {excerpt(subsets)}; a list of names is wanted")
    return tuple(subsets)


class OwnPart(Section):
    """Prompts of a user's task."""

    subsets: tuple[str, ...] | None = Field(
        default=None, strict=False, min_length=1, description="null: all that the task has."
    )
    count: PositiveInt | None = Field(default=None, description="Prompts of each subset; null: all.")
    seed: NonNegativeInt = 0


class OwnEvaluation(OwnPart):
    """Held-out prompts of a user's task."""

    split: str = Field(default="test", min_length=1, description="Asked of the task's method `prompts`.")


class OwnTask(TaskSection):
    """A class with the methods of `rlad_core.tasks.Task`."""

    name: CodePlace
    settings: Annotated[dict[str, Any], BeforeValidator(_with_paths)] = Field(
        default={},
        description="Arguments of the class; a text that names a file, or with a slash a folder, becomes its "
        "path, from the recipe's folder.",
    )
    train: OwnPart = OwnPart()
    evaluation: OwnEvaluation = OwnEvaluation()

    @model_validator(mode="after")
    def _makes_a_task(self, info: ValidationInfo) -> Self:
        if was_checked(info):
            return self
        try:
            made = self.task()
            check_calls(made)
            subsets = _subsets(made)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            field = "settings" if self.settings and not isinstance(error, code.CodeError) else "name"
            value, said = getattr(self, field), code.fault(error)
            raise refusal(Problem(field, value, said)) from error
        for field in ("train", "evaluation"):
            for subset in getattr(self, field).subsets or ():
                if subset not in subsets:
                    advice = f"is no subset of {self.label}. Write some of {', '.join(subsets)}"
                    raise refusal(Problem(f"{field}.subsets", subset, advice))
        return self

    @property
    def label(self) -> str:
        """What the class calls itself, or its own name."""
        return self._class().name

    @property
    def train_parts(self) -> tuple[Part, ...]:
        """One part a subset."""
        return self._parts("train", self.train)

    @property
    def evaluation_parts(self) -> tuple[Part, ...]:
        """One part a subset."""
        return self._parts(self.evaluation.split, self.evaluation)

    def task(self) -> Task:
        """See `TaskSection.task`; runs the user's class.

        Raises:
            CodeError: its file does not run.
            TypeError: it is no task.
            BaseException: what the class raises when it is made with these settings.
        """
        return self._class()(**self.settings)

    def judge(self) -> TaskSpec:
        """See `TaskSection.judge`."""
        return TaskSpec(self.name, dict(self.settings))

    @property
    def code(self) -> tuple[str, ...]:
        """The task's own file."""
        return (self.name,)

    @classmethod
    def asked(cls, name: str, asked: Asked) -> dict[str, Any]:
        """Its held-out prompts."""
        asked.refuse(name, "people", "files", "layout")
        wanted = {"count": asked.count, **({} if asked.split is None else {"split": asked.split})}
        return {"name": name, "evaluation": wanted}

    def _class(self) -> type[Task]:
        return complete(code.load(self.name), code.name_in(self.name))

    def _parts(self, split: str, wanted: OwnPart) -> tuple[Part, ...]:
        subsets = wanted.subsets or tuple(self.task().subsets)
        return tuple(Part(split, subset, wanted.count, wanted.seed) for subset in subsets)
