"""The section of a recipe for math problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from rlad_core.sections.base import Section
from rlad_core.sections.problems import Problem
from rlad_core.tasks.base import Task, TaskSpec
from rlad_core.tasks.files import DataFile, FileTaskSection
from rlad_core.tasks.math.judging import Judging
from rlad_core.tasks.rows import RowReader
from rlad_core.tasks.section import Asked


class ProblemColumns(Section):
    """What the columns of the files are called; a name with dots goes into a value."""

    prompt: str | None = Field(default=None, min_length=1, description="The problem: a text, or messages.")
    gold: str | None = Field(default=None, min_length=1, description="The answer: a text or a number.")
    solution: str | None = Field(
        default=None, min_length=1, description="The worked solution, for stages that train on it."
    )
    teachers: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Further columns of the training files, which teachers name in weight_column or prefix.",
    )


class ProblemFile(DataFile):
    """A data file of problems."""

    format: Literal["auto", "chat", "gsm8k", "math"] = Field(
        default="auto",
        description="Of its rows. auto: by the usual names of columns, such as problem and answer; chat: "
        "messages in prompt, reward_model.ground_truth (verl, Skywork-OR1, DAPO); gsm8k: question, answer "
        "with '#### 42'; math: problem, solution with a boxed answer.",
    )
    columns: ProblemColumns | None = Field(
        default=None, description="What this file's are called; null: as task.columns says."
    )


ProblemFiles = Annotated[
    tuple[ProblemFile, ...],
    Field(strict=False, min_length=1, description="Data files: [{path: ..., format: ...}, ...]."),
]


class TrainProblems(Section):
    """Problems to train on; they repeat when all were seen."""

    files: ProblemFiles
    seed: NonNegativeInt = 0


class EvaluationProblems(Section):
    """Held-out problems; see evaluation.overlap for those that are also trained on."""

    files: ProblemFiles
    seed: NonNegativeInt = 0


class Settings(Judging, FileTaskSection):
    """Math problems with one short answer each, read from data files."""

    judges_alone: ClassVar[TaskSpec] = TaskSpec(
        "rlad_core.tasks.math.task:Math", {}, preload="rlad_core.tasks.math.preloaded"
    )

    judged_example: ClassVar[str] = (
        '{"task": "math", "gold": {"answer": "5"}, "responses": [{"response": "5"}]}'
    )

    name: str = "math"
    train: TrainProblems | None = Field(default=None, description="Needed to train: {files: [...]}.")
    evaluation: EvaluationProblems | None = Field(default=None, description="Needed: {files: [...]}.")
    columns: ProblemColumns = ProblemColumns()

    def task(self) -> Task:
        """See `TaskSection.task`."""
        from rlad_core.tasks.math.task import Math, ProblemSource

        return Math(
            {
                (split, file.subset): ProblemSource(
                    file.path,
                    file.format,
                    file.encoding,
                    **(file.columns or self.columns).model_dump(exclude={"teachers"}),
                    keep=(file.columns or self.columns).teachers if split == "train" else (),
                )
                for split, wanted in (("train", self.train), ("evaluation", self.evaluation))
                if wanted is not None
                for file in wanted.files
            },
            **self.judge().settings,
        )

    def reader(self, file: DataFile) -> RowReader:
        """See `FileTaskSection.reader`."""
        from rlad_core.tasks.math.published import ProblemReader

        layout, own = (file.format, file.columns) if isinstance(file, ProblemFile) else ("auto", None)
        return ProblemReader(layout, **(own or self.columns).model_dump(exclude={"teachers"}))

    def judge(self) -> TaskSpec:
        """See `TaskSection.judge`."""
        said = self.model_dump(include=set(Judging.model_fields), exclude_defaults=True)
        return replace(self.judges_alone, settings=said)

    def problems(self, *, solutions_for: str | None) -> Iterator[Problem]:
        """Names of files, and solutions where they are trained on."""
        yield from super().problems(solutions_for=solutions_for)
        for index, file in enumerate(() if self.train is None else self.train.files):
            if solutions_for and file.format == "chat":
                yield Problem(
                    f"train.files.{index}.format",
                    file.format,
                    f"such rows have no worked solutions, which {solutions_for} trains on. "
                    "Take a file of format gsm8k or math, or one with a column solution and format auto, or "
                    "source: teacher",
                )

    @classmethod
    def asked(cls, name: str, asked: Asked) -> dict[str, Any]:
        """Problems of some files."""
        asked.refuse(name, "people", "split")
        if not asked.files:
            raise ValueError(f"{name} needs a data file; write --file PATH")
        files = [
            {"path": path, "format": asked.layout or "auto", "count": asked.count} for path in asked.files
        ]
        return {"name": name, "evaluation": {"files": files}}
