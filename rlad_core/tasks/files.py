"""What the sections of tasks have in common whose prompts come from data files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import Field, PositiveInt

from rlad_core.sections.base import Section
from rlad_core.sections.paths import RecipePath
from rlad_core.sections.problems import Problem
from rlad_core.tasks.section import Part, TaskSection


class DataFile(Section):
    """A data file, one prompt a row."""

    path: RecipePath = Field(
        description="A .parquet or .jsonl file that every node of the cluster can read; relative to the "
        "recipe's folder."
    )
    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The subset its prompts are reported under; null: the file's name without its ending.",
    )
    count: PositiveInt | None = Field(
        default=None, description="So many of its prompts, drawn with the seed; null: all."
    )

    @property
    def subset(self) -> str:
        """The name its prompts are reported under."""
        return self.name or Path(self.path).stem


class DataFiles(Protocol):
    """The part `train` or `evaluation` of such a section."""

    @property
    def files(self) -> Sequence[DataFile]:
        """At least one."""

    @property
    def seed(self) -> int:
        """Of what is drawn from them."""


class FileTaskSection(TaskSection):
    """A section whose parts `train` and `evaluation` are data files."""

    endings: ClassVar[tuple[str, ...]] = (".parquet", ".jsonl")

    @property
    def train_parts(self) -> tuple[Part, ...]:
        """One part a file."""
        return self._parts("train")

    @property
    def evaluation_parts(self) -> tuple[Part, ...]:
        """One part a file."""
        return self._parts("evaluation")

    def files(self, split: str) -> Sequence[DataFile]:
        """Files of ``train`` or ``evaluation``."""
        wanted: DataFiles | None = getattr(self, split)
        return () if wanted is None else wanted.files

    def problems(self, *, solutions_for: str | None) -> Iterator[Problem]:
        """Files that would be reported under one name."""
        for split in ("train", "evaluation"):
            names = [file.subset for file in self.files(split)]
            for index, file in enumerate(self.files(split)):
                if file.subset in names[:index]:
                    yield Problem(
                        f"{split}.files.{index}.name",
                        file.name,
                        f"another file is reported as {file.subset} already. Write another name",
                    )

    def file_problems(self) -> Iterator[Problem]:
        """Data files that are none, or not there."""
        for split in ("train", "evaluation"):
            for index, file in enumerate(self.files(split)):
                where = f"{split}.files.{index}.path"
                if not file.path.endswith(self.endings):
                    endings = " or ".join(self.endings)
                    yield Problem(where, file.path, f"is no data file. Write one that ends in {endings}")
                elif not Path(file.path).is_file():
                    yield Problem(where, file.path, "there is no such file. Write the path of one")

    def _parts(self, split: str) -> tuple[Part, ...]:
        wanted: DataFiles | None = getattr(self, split)
        if wanted is None:
            return ()
        return tuple(Part(split, file.subset, file.count, wanted.seed) for file in wanted.files)
