"""The section of a recipe for a user's own data file and reward function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeInt, ValidationInfo, model_validator

from rlad_core.sections import code
from rlad_core.sections.base import Section
from rlad_core.sections.findings import refusal
from rlad_core.sections.paths import CodePlace, was_checked
from rlad_core.sections.problems import Problem
from rlad_core.tasks.base import Task, TaskSpec
from rlad_core.tasks.columns import ANSWERED, ASKED
from rlad_core.tasks.files import DataFile, FileTaskSection
from rlad_core.tasks.prompts.reading import PromptReader
from rlad_core.tasks.prompts.reward import RewardError, parameters
from rlad_core.tasks.rows import FileSource, RowReader


class PromptFiles(Section):
    """Prompts of some files."""

    files: Annotated[
        tuple[DataFile, ...],
        Field(strict=False, min_length=1, description="Data files: [{path: ...}, ...]."),
    ]
    seed: NonNegativeInt = 0


class NamedColumns(Section):
    """What the columns of the files are called; a name with dots goes into a value."""

    prompt: str | None = Field(
        default=None,
        min_length=1,
        description=f"What is asked: a text, or a list of messages; null: {', '.join(ASKED)}.",
    )
    gold: str | None = Field(
        default=None,
        min_length=1,
        description=f"What the reward function gets as gold; null: {', '.join(ANSWERED)}.",
    )


class Settings(FileTaskSection):
    """Prompts of a user's own data files, judged by a user's own function."""

    name: str = "prompts"
    train: PromptFiles | None = Field(
        default=None, description="Needed to train: {files: [{path: train.jsonl}]}."
    )
    evaluation: PromptFiles | None = Field(default=None, description="Needed: {files: [{path: test.jsonl}]}.")
    columns: NamedColumns = NamedColumns()
    system: str | None = Field(default=None, description="A system message, where a chat has none.")
    reward: CodePlace = Field(
        description="The function score(response, gold, row), as file.py:score; it returns a bool, a number, "
        "or a mapping with reward, correct and further numbers."
    )
    correct_at: float = Field(default=1.0, description="From this reward on a response counts as correct.")

    @model_validator(mode="after")
    def _has_a_function(self, info: ValidationInfo) -> Self:
        if was_checked(info):
            return self
        try:
            if not code.is_place(self.reward):
                raise ValueError("names no function. Write file.py:NAME, such as reward.py:score")
            parameters(code.load(self.reward))
        except (ValueError, RewardError) as error:
            raise refusal(Problem("reward", self.reward, str(error))) from error
        return self

    def task(self) -> Task:
        """See `TaskSection.task`."""
        from rlad_core.tasks.prompts.task import Prompts

        files = {
            (split, file.subset): FileSource(file.path, file.encoding)
            for split in ("train", "evaluation")
            for file in self.files(split)
        }
        return Prompts(files=files, **self._settings())

    def reader(self, file: DataFile) -> RowReader:
        """See `FileTaskSection.reader`."""
        return PromptReader(self.columns.prompt, self.columns.gold, self.system)

    def judge(self) -> TaskSpec:
        """See `TaskSection.judge`."""
        return TaskSpec("rlad_core.tasks.prompts.task:Prompts", self._settings())

    @property
    def code(self) -> tuple[str, ...]:
        """The reward function's file."""
        return (self.reward,)

    def problems(self, *, solutions_for: str | None) -> Iterator[Problem]:
        """Names of files; and there are no solutions to train on."""
        yield from super().problems(solutions_for=solutions_for)
        if solutions_for:
            yield Problem(
                "name",
                self.name,
                f"such prompts have no worked solutions, which {solutions_for} trains on. "
                "Write source: teacher, or a task of your own with a method demonstration",
            )

    def _settings(self) -> dict[str, Any]:
        return {
            "prompt_column": self.columns.prompt,
            "gold_column": self.columns.gold,
            "system": self.system,
            "reward": self.reward,
            "correct_at": self.correct_at,
        }
