"""What the sections of tasks have in common whose prompts come from data files."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from rlad_core import data
from rlad_core.sections.base import NAME_PATTERN, Section
from rlad_core.sections.paths import RecipePath
from rlad_core.sections.problems import Problem
from rlad_core.tasks.rows import RowReader
from rlad_core.tasks.section import Part, TaskSection


def _known(encoding: str) -> str:
    try:
        "a".encode(encoding)  # refuses base64 and others that are known, and encode no text
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise ValueError("is no encoding. Write one such as utf-8, utf-16, latin-1 or cp1252") from None


class DataFile(Section):
    """A data file, one prompt a row; its path alone is enough."""

    path: RecipePath = Field(
        description="A file (.jsonl, .json, .csv, .tsv, .parquet, .arrow; also with .gz or .zst), a pattern "
        "such as train-*.parquet, or a folder that the library datasets saved. Every node must be able to "
        "read it; relative to the recipe's folder."
    )
    name: str | None = Field(
        default=None,
        pattern=NAME_PATTERN,
        description="The subset its prompts are reported under; null: the file's name without its ending.",
    )
    encoding: Annotated[str, AfterValidator(_known)] | None = Field(
        default=None,
        description="Of texts, such as latin-1; null: UTF-8, or what the file's first bytes say.",
    )
    count: PositiveInt | None = Field(
        default=None, description="So many of its prompts, drawn with the seed; null: all."
    )

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @property
    def subset(self) -> str:
        """The name its prompts are reported under."""
        return self.name or data.name_of(self.path)


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

    def reader(self, file: DataFile) -> RowReader | None:
        """How the rows of one of its files are read; None: their columns are not looked at beforehand."""
        return None

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
        """Data files that are none, or lack a column."""
        for place, file in self._places():
            if not data.is_there(file.path):
                continue
            if fault := data.path_fault(file.path):
                yield Problem(place, file.path, fault)
                continue
            try:
                reader, names = self.reader(file), data.column_names(file.path, file.encoding)
                if reader is not None and names:
                    reader.choose(names)
            except data.DataError as error:
                yield Problem(place, file.path, f"cannot be read. {error}")
            except ValueError as error:
                yield Problem(place, file.path, str(error))

    def missing_files(self) -> Iterator[Problem]:
        """Data files that are not on this machine."""
        for place, file in self._places():
            if not data.is_there(file.path):
                yield Problem(place, file.path, "there is no such file. Write the path of one")

    def _places(self) -> Iterator[tuple[str, DataFile]]:
        for split in ("train", "evaluation"):
            for index, file in enumerate(self.files(split)):
                yield f"{split}.files.{index}.path", file

    def _parts(self, split: str) -> tuple[Part, ...]:
        wanted: DataFiles | None = getattr(self, split)
        if wanted is None:
            return ()
        return tuple(Part(split, file.subset, file.count, wanted.seed) for file in wanted.files)
