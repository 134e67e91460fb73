"""The section of a recipe for Knights and Knaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from rlad_core.sections.base import Section
from rlad_core.tasks.base import Task, TaskSpec
from rlad_core.tasks.section import Asked, Part, TaskSection

_PUZZLES = 300


def _different(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"names a size twice; write {sorted(set(sizes))}")
    return sizes


People = Annotated[
    tuple[Annotated[int, Field(ge=2, le=8)], ...],
    AfterValidator(_different),
    Field(
        strict=False,
        min_length=1,
        description="Sizes of the puzzles, 2 to 8 people; each size in equal parts.",
    ),
]


class TrainPuzzles(Section):
    """Puzzles to train on."""

    people: People
    count: PositiveInt = Field(
        default=10000, description="Different puzzles over all sizes; then they repeat."
    )
    seed: NonNegativeInt = 0


class EvaluationPuzzles(Section):
    """Held-out puzzles; no puzzle is in two splits."""

    people: People
    count: PositiveInt = Field(default=_PUZZLES, description="Puzzles of each size.")
    split: Literal["validation", "test"] = "test"
    seed: NonNegativeInt = 0


class Settings(TaskSection):
    """Knights-and-Knaves puzzles with unique solutions, generated from seeds."""

    can_hang: ClassVar[bool] = False
    judges_alone: ClassVar[TaskSpec] = TaskSpec("rlad_core.tasks.knights_knaves.task:KnightsKnaves", {})

    name: str = "knights_knaves"
    train: TrainPuzzles | None = Field(default=None, description="Needed to train: {people: [2, 3]}.")
    evaluation: EvaluationPuzzles | None = Field(default=None, description="Needed: {people: [2, 3]}.")

    @property
    def train_parts(self) -> tuple[Part, ...]:
        """One part a size, their counts as equal as can be."""
        return tuple(self._train_parts())

    @property
    def evaluation_parts(self) -> tuple[Part, ...]:
        """One part a size."""
        wanted = self.evaluation
        people = () if wanted is None else wanted.people
        return tuple(
            Part(wanted.split, f"{size}_people", wanted.count, wanted.seed) for size in people if wanted
        )

    def task(self) -> Task:
        """See `TaskSection.task`."""
        from rlad_core.tasks.knights_knaves.task import KnightsKnaves

        return KnightsKnaves()

    def judge(self) -> TaskSpec:
        """See `TaskSection.judge`."""
        return self.judges_alone

    @classmethod
    def asked(cls, name: str, asked: Asked) -> dict[str, Any]:
        """So many puzzles of each size."""
        asked.refuse(name, "files", "layout")
        wanted = {"people": list(asked.people or (2, 3)), "count": asked.count or _PUZZLES}
        return {"name": name, "evaluation": wanted | {"split": asked.split or "test"}}

    def _train_parts(self) -> Iterator[Part]:
        if (wanted := self.train) is not None:
            sizes = len(wanted.people)
            for index, people in enumerate(wanted.people):
                yield Part("train", f"{people}_people", len(range(index, wanted.count, sizes)), wanted.seed)
