"""Whether the data files of a recipe are there. Opens none of them: large ones are read when a run starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlad_core.config.errors import Problem
from rlad_core.config.run import RunConfig
from rlad_core.config.tasks import MathTask

_ENDINGS = (".parquet", ".jsonl")


def data_problems(config: RunConfig) -> Iterator[Problem]:
    """What is wrong with the data files a recipe names, as far as this machine can tell."""
    for place, task in config.task_sections.items():
        if not isinstance(task, MathTask):
            continue
        for part, section in (("train", task.train), ("evaluation", task.evaluation)):
            for index, file in enumerate(section.files):
                path = f"{place}.{part}.files.{index}.path"
                if not file.path.endswith(_ENDINGS):
                    yield Problem(
                        path, file.path, f"is no data file. Write one that ends in {' or '.join(_ENDINGS)}"
                    )
                elif not Path(file.path).is_file():
                    yield Problem(path, file.path, "there is no such file. Write the path of one")
