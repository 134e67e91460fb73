"""The section `task`: what is asked, in training and in evaluation. One class a task, told apart by `name`.

Every task lists its prompts as parts, so that nobody else has to know what a task counts in.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from rlad_core.config.base import Section


@dataclass(frozen=True)
class Part:
    """Prompts of one subset, as `rlad_core.tasks.Task.prompts` is asked for them."""

    split: str
    subset: str
    count: int | None
    """null: all there are."""
    seed: int


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
    count: PositiveInt = Field(default=300, description="Puzzles of each size.")
    split: Literal["validation", "test"] = "test"
    seed: NonNegativeInt = 0


class KnightsKnavesTask(Section):
    """Knights-and-Knaves puzzles with unique solutions, generated from seeds."""

    name: Literal["knights_knaves"] = "knights_knaves"
    train: TrainPuzzles
    evaluation: EvaluationPuzzles

    @property
    def train_parts(self) -> tuple[Part, ...]:
        """One part a size, their counts as equal as can be."""
        wanted = self.train
        sizes = len(wanted.people)
        return tuple(
            Part("train", f"{people}_people", len(range(index, wanted.count, sizes)), wanted.seed)
            for index, people in enumerate(wanted.people)
        )

    @property
    def evaluation_parts(self) -> tuple[Part, ...]:
        """One part a size."""
        wanted = self.evaluation
        return tuple(
            Part(wanted.split, f"{people}_people", wanted.count, wanted.seed) for people in wanted.people
        )


def _absolute(path: str) -> str:
    """Services have a current folder of their own, and the saved recipe may be read from another one."""
    return str(Path(path).expanduser().absolute())


class ProblemFile(Section):
    """A data file of problems."""

    path: Annotated[str, Field(min_length=1), AfterValidator(_absolute)] = Field(
        description="A .parquet or .jsonl file that every node of the cluster can read; relative to the "
        "folder where the command is started."
    )
    format: Literal["chat", "gsm8k", "math"] = Field(
        default="chat",
        description="Of its rows. chat: messages in prompt, reward_model.ground_truth (verl, Skywork-OR1, "
        "DAPO); gsm8k: question, answer with '#### 42'; math: problem, solution with a boxed answer.",
    )
    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The subset its problems are reported under; null: the file's name without its ending.",
    )
    count: PositiveInt | None = Field(
        default=None, description="So many of its problems, drawn with the seed; null: all."
    )

    @property
    def subset(self) -> str:
        """The name its problems are reported under."""
        return self.name or Path(self.path).stem


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


class MathTask(Section):
    """Math problems with one short answer each, read from data files."""

    name: Literal["math"] = "math"
    train: TrainProblems
    evaluation: EvaluationProblems

    @property
    def train_parts(self) -> tuple[Part, ...]:
        """One part a file."""
        return tuple(Part("train", file.subset, file.count, self.train.seed) for file in self.train.files)

    @property
    def evaluation_parts(self) -> tuple[Part, ...]:
        """One part a file."""
        return tuple(
            Part("evaluation", file.subset, file.count, self.evaluation.seed)
            for file in self.evaluation.files
        )


Task = Annotated[KnightsKnavesTask | MathTask, Field(discriminator="name")]
