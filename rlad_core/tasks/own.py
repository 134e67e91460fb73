"""A task of a user's own in a recipe: ``task: {name: my_tasks.py:Riddles}``."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from rlad_core.sections import code
from rlad_core.sections.base import Section
from rlad_core.sections.paths import CodePlace, folder_of, was_checked
from rlad_core.sections.problems import Problem
from rlad_core.tasks.base import Task, TaskSpec, complete
from rlad_core.tasks.section import Asked, Part, TaskSection


def _with_paths(value: Any, info: ValidationInfo) -> Any:
    """Where the code runs neither the recipe's folder nor the code's own is the current one."""
    if not isinstance(value, dict):
        return value
    paths = {key: folder_of(each, info) / each for key, each in value.items() if isinstance(each, str)}
    return value | {key: str(path.absolute()) for key, path in paths.items() if path.exists()}


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
        description="Arguments of the class; a text that names a file beside the recipe becomes its path.",
    )
    train: OwnPart = OwnPart()
    evaluation: OwnEvaluation = OwnEvaluation()

    @model_validator(mode="after")
    def _makes_a_task(self, info: ValidationInfo) -> Self:
        if was_checked(info):
            return self
        try:
            made = self.task()
        except (code.CodeError, TypeError, ValueError) as error:
            field = "settings" if self.settings and not isinstance(error, code.CodeError) else "name"
            value = getattr(self, field)
            raise PydanticCustomError(
                "sections_disagree",
                "{listing}",
                {"listing": str(error), "problems": [Problem(field, value, code.fault(error))]},
            ) from error
        for field in ("train", "evaluation"):
            for subset in getattr(self, field).subsets or ():
                if subset not in made.subsets:
                    advice = f"is no subset of {self.label}. Write some of {', '.join(made.subsets)}"
                    raise PydanticCustomError(
                        "sections_disagree",
                        "{listing}",
                        {"listing": advice, "problems": [Problem(f"{field}.subsets", subset, advice)]},
                    )
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
            TypeError, ValueError: it is no task, or refuses its settings.
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
