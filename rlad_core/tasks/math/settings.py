"""The section of a recipe for math problems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from rlad_core.sections.base import Section
from rlad_core.sections.problems import Problem
from rlad_core.tasks.base import Task, TaskSpec
from rlad_core.tasks.files import DataFile, FileTaskSection
from rlad_core.tasks.section import Asked


class ProblemFile(DataFile):
    """A data file of problems."""

    format: Literal["chat", "gsm8k", "math"] = Field(
        default="chat",
        description="Of its rows. chat: messages in prompt, reward_model.ground_truth (verl, Skywork-OR1, "
        "DAPO); gsm8k: question, answer with '#### 42'; math: problem, solution with a boxed answer.",
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
    """Held-out problems; a problem that is also trained on stops the run."""

    files: ProblemFiles
    seed: NonNegativeInt = 0


class Settings(FileTaskSection):
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

    def task(self) -> Task:
        """See `TaskSection.task`."""
        from rlad_core.tasks.math.task import Math, ProblemSource

        return Math(
            {
                (split, file.subset): ProblemSource(Path(file.path), file.format)
                for split, wanted in (("train", self.train), ("evaluation", self.evaluation))
                if wanted is not None
                for file in wanted.files
            }
        )

    def judge(self) -> TaskSpec:
        """See `TaskSection.judge`."""
        return self.judges_alone

    def problems(self, *, solutions_for: str | None) -> Iterator[Problem]:
        """Names of files, and solutions where they are trained on."""
        yield from super().problems(solutions_for=solutions_for)
        for index, file in enumerate(() if self.train is None else self.train.files):
            if solutions_for and file.format == "chat":
                yield Problem(
                    f"train.files.{index}.format",
                    file.format,
                    f"such rows have no worked solutions, which {solutions_for} trains on. "
                    "Take a file of format gsm8k or math, or source: teacher",
                )

    @classmethod
    def asked(cls, name: str, asked: Asked) -> dict[str, Any]:
        """Problems of some files."""
        asked.refuse(name, "people", "split")
        if not asked.files:
            raise ValueError(f"{name} needs a data file; write --file PATH")
        files = [
            {"path": path, "format": asked.layout or "chat", "count": asked.count} for path in asked.files
        ]
        return {"name": name, "evaluation": {"files": files}}
