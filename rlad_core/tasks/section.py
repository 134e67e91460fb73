"""A task's section in a recipe: what is asked, in training and in evaluation.

Every task lists its prompts as parts, so that nobody else has to know what a task counts in.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from rlad_core.sections.base import Section
from rlad_core.sections.problems import Problem
from rlad_core.sections.resume import OnResume
from rlad_core.tasks.base import Task, TaskSpec


@dataclass(frozen=True)
class Part:
    """Prompts of one subset, as `Task.prompts` is asked for them."""

    split: str
    subset: str
    count: int | None
    """null: all there are."""
    seed: int


@dataclass(frozen=True)
class Asked:
    """What a person who evaluates may say of the prompts without writing a recipe; None: nothing said.

    people: sizes of prompts. files: data files. layout: the format of their rows. count: prompts of each
    subset. split: of what is generated.
    """

    people: Sequence[int] | None = None
    files: Sequence[str] = ()
    layout: str | None = None
    count: int | None = None
    split: str | None = None

    def refuse(self, name: str, *fields: str) -> None:
        """Refuse what the task `name` has no use for.

        Raises:
            ValueError: names the first such thing.
        """
        for field in fields:
            if getattr(self, field):
                raise ValueError(f"{field}: task {name} has no use for it; leave it out")


class TaskSection(Section):
    """The section `task` of a recipe."""

    on_resume: ClassVar[OnResume | None] = OnResume.FIXED

    name: str = Field(description="A task's name, or the place of a class of your own: file.py:Name.")

    can_hang: ClassVar[bool] = True
    """See `Task.can_hang`."""
    judges_alone: ClassVar[TaskSpec | None] = None
    """How it judges without a recipe's settings; None: it cannot."""
    judged_example: ClassVar[str] = ""
    """A request to the verifier's ``/v1/verify``, as JSON."""

    @property
    def label(self) -> str:
        """The task as tables and teachers' lists of tasks call it."""
        return self.name

    @property
    @abstractmethod
    def train_parts(self) -> tuple[Part, ...]:
        """What is trained on; nothing where the section has none."""

    @property
    @abstractmethod
    def evaluation_parts(self) -> tuple[Part, ...]:
        """What is held out; nothing where the section has none."""

    @abstractmethod
    def task(self) -> Task:
        """The task, with its data. Reads nothing yet."""

    @abstractmethod
    def judge(self) -> TaskSpec:
        """The task as a verifier makes it, which needs no data."""

    @property
    def code(self) -> tuple[str, ...]:
        """Places of users' code that it runs."""
        return ()

    def problems(self, *, solutions_for: str | None) -> Iterator[Problem]:
        """What does not fit within the section, by the name of the field; looks at nothing else.

        Args:
            solutions_for: what trains on the task's worked solutions, in words; None: nothing does.
        """
        yield from ()

    def file_problems(self) -> Iterator[Problem]:
        """What is wrong with its files that are on this machine, as far as their first rows tell."""
        yield from ()

    def missing_files(self) -> Iterator[Problem]:
        """Its files that are not on this machine: wrong, unless the run joins a cluster that has them."""
        yield from ()

    @classmethod
    def asked(cls, name: str, asked: Asked) -> dict[str, Any]:
        """The section that evaluates what a person asked for, as a recipe would have it.

        Raises:
            ValueError: it cannot be asked for so.
        """
        raise ValueError(f"task {name} has more settings than that. Write --task RECIPE.yaml, which has them")
