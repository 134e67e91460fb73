"""The section of a recipe for Knights and Knaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from rlad_core.sections.base import Section
from rlad_core.sections.findings import refusal
from rlad_core.sections.problems import NOT_SET, Problem
from rlad_core.tasks.base import Task, TaskSpec
from rlad_core.tasks.files import DataFile, FileTaskSection
from rlad_core.tasks.rows import RowReader
from rlad_core.tasks.section import Asked, Part

_PUZZLES = 300


Perturbation = Literal[
    "perturbed_statement", "perturbed_leaf", "uncommon_name", "random_pair", "flip_role", "reorder_statement"
]
"""The keys of `perturbations.KINDS`."""


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"names one twice; write {sorted(set(values))}")
    return values


class _Puzzles(Section):
    """Generated puzzles, or those of files."""

    people: Annotated[
        tuple[Annotated[int, Field(ge=2, le=8)], ...],
        AfterValidator(_different),
        Field(
            strict=False, description="Sizes of generated puzzles, 2 to 8 people; each size in equal parts."
        ),
    ] = ()
    files: tuple[DataFile, ...] = Field(
        default=(),
        strict=False,
        description="Published puzzles instead, as K-and-K/knights-and-knaves or Logic-RL have them: "
        "[{path: ...}, ...].",
    )

    @model_validator(mode="after")
    def _has_some(self) -> Self:
        if self.people and self.files:
            advice = "stands beside files. Write one of the two"
            raise refusal(Problem("people", list(self.people), advice))
        if not self.people and not self.files:
            advice = "or files is needed. Write people: [2, 3] to generate puzzles, or files: [{path: ...}]"
            raise refusal(Problem("people", NOT_SET, advice))
        for name in ("count", "perturbations", "split"):
            field, value = type(self).model_fields.get(name), getattr(self, name, None)
            if self.files and field is not None and value != field.default:
                advice = "is for generated puzzles, and these are read. Write files: [{path: .., count: ..}]"
                raise refusal(Problem(name, value, advice))
        return self


class TrainPuzzles(_Puzzles):
    """Puzzles to train on."""

    count: PositiveInt = Field(
        default=10000, description="Different generated puzzles over all sizes; then they repeat."
    )
    seed: NonNegativeInt = 0


class EvaluationPuzzles(_Puzzles):
    """Held-out puzzles; no generated puzzle is in two splits."""

    count: PositiveInt = Field(default=_PUZZLES, description="Generated puzzles of each size.")
    split: Literal["validation", "test"] = Field(default="test", description="Of generated puzzles.")
    perturbations: Annotated[
        tuple[Perturbation, ...],
        AfterValidator(_different),
        Field(
            strict=False,
            description="Generated puzzles altered in these ways, as many again for each, beside the others.",
        ),
    ] = ()
    seed: NonNegativeInt = 0


class PuzzleColumns(Section):
    """Columns of the files besides those that say the puzzle."""

    teachers: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Of the training files, that teachers name in weight_column or prefix.",
    )


class Settings(FileTaskSection):
    """Knights-and-Knaves puzzles with unique solutions, generated from seeds or read from files."""

    can_hang: ClassVar[bool] = False
    judges_alone: ClassVar[TaskSpec] = TaskSpec("rlad_core.tasks.knights_knaves.task:KnightsKnaves", {})

    name: str = "knights_knaves"
    train: TrainPuzzles | None = Field(
        default=None, description="Needed to train: {people: [2, 3]}, or {files: [{path: ...}]}."
    )
    evaluation: EvaluationPuzzles | None = Field(
        default=None, description="Needed: {people: [2, 3]}, or {files: [{path: ...}]}."
    )
    columns: PuzzleColumns = PuzzleColumns()

    @property
    def train_parts(self) -> tuple[Part, ...]:
        """One part a size, their counts as equal as can be, or one a file."""
        return (*self._sizes_to_train(), *super().train_parts)

    @property
    def evaluation_parts(self) -> tuple[Part, ...]:
        """One part a size and one for each of its perturbations, or one a file."""
        return (*self._sizes_to_evaluate(), *super().evaluation_parts)

    def task(self) -> Task:
        """See `TaskSection.task`."""
        from rlad_core.tasks.knights_knaves.task import KnightsKnaves
        from rlad_core.tasks.rows import FileSource

        return KnightsKnaves(
            files={
                (split, file.subset): FileSource(
                    file.path, file.encoding, keep=self.columns.teachers if split == "train" else ()
                )
                for split in ("train", "evaluation")
                for file in self.files(split)
            }
        )

    def reader(self, file: DataFile) -> RowReader:
        """See `FileTaskSection.reader`."""
        from rlad_core.tasks.knights_knaves.published import PuzzleReader

        return PuzzleReader()

    def judge(self) -> TaskSpec:
        """See `TaskSection.judge`."""
        return self.judges_alone

    def problems(self, *, solutions_for: str | None) -> Iterator[Problem]:
        """Names of files; and generated puzzles have no columns."""
        yield from super().problems(solutions_for=solutions_for)
        if self.columns.teachers and not self.files("train"):
            advice = "puzzles that are generated have no columns. Write train.files, or leave it out"
            yield Problem("columns.teachers", list(self.columns.teachers), advice)

    @classmethod
    def asked(cls, name: str, asked: Asked) -> dict[str, Any]:
        """So many puzzles of each size, or of some files."""
        asked.refuse(name, "layout")
        if asked.files:
            asked.refuse(f"{name} with files", "people", "split")
            return {
                "name": name,
                "evaluation": {"files": [{"path": path, "count": asked.count} for path in asked.files]},
            }
        wanted = {"people": list(asked.people or (2, 3)), "count": asked.count or _PUZZLES}
        return {"name": name, "evaluation": wanted | {"split": asked.split or "test"}}

    def _sizes_to_train(self) -> Iterator[Part]:
        if (wanted := self.train) is not None:
            each, more = divmod(wanted.count, max(len(wanted.people), 1))
            for index, people in enumerate(wanted.people):
                yield Part("train", f"{people}_people", each + (index < more), wanted.seed)

    def _sizes_to_evaluate(self) -> Iterator[Part]:
        if (wanted := self.evaluation) is not None:
            for people in wanted.people:
                for altered in ("", *(f"_{kind}" for kind in wanted.perturbations)):
                    yield Part(wanted.split, f"{people}_people{altered}", wanted.count, wanted.seed)
