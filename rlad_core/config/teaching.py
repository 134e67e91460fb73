"""Rules about a recipe's tasks and teachers: every task there once, every task taught by one teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlad_core.config.errors import NOT_SET, Problem
from rlad_core.config.objectives import SFT
from rlad_core.config.tasks import MathTask

if TYPE_CHECKING:
    from rlad_core.config.run import RunConfig


def teaching_problems(config: RunConfig) -> list[Problem]:
    """What does not fit between the tasks, the teachers and what the stages ask of them."""
    return [*_tasks(config), *_teacher(config), *_who_teaches(config), *_data_files(config)]


def _tasks(config: RunConfig) -> Iterator[Problem]:
    if config.task is not None and config.tasks:
        yield Problem("tasks", len(config.tasks), "task is there too. Write one of the two")
    if not config.task_sections:
        yield Problem("task", NOT_SET, "is needed: what is trained on and evaluated. Write task: {name: ...}")
    names: list[str] = []
    subsets: dict[str, str] = {}
    for place, task in config.task_sections.items():
        if task.name in names:
            yield Problem(f"{place}.name", task.name, "is there twice. Write one section with all its parts")
            continue
        names.append(task.name)
        for part in task.evaluation_parts:
            if subsets.setdefault(part.subset, place) != place:
                yield Problem(
                    f"{place}.evaluation",
                    part.subset,
                    f"{subsets[part.subset]} reports a subset of that name already. Name the file otherwise",
                )


def _teacher(config: RunConfig) -> Iterator[Problem]:
    teachers = config.teacher_sections
    for index, stage in enumerate(config.stages):
        if stage.objective.needs_teacher and not teachers:
            kind = stage.objective.kind
            way_out = {
                "trrd": ", or set alpha to 1, which is GRPO",
                "sft": ", or take source: trace",
            }.get(kind, "")
            yield Problem(
                "teacher",
                None,
                f"stages.{index}.objective ({kind}) needs a teacher. Write "
                f"teacher: {{kind: serve, model: ...}}{way_out}",
            )
        if not (isinstance(stage.objective, SFT) and stage.objective.source == "teacher" and teachers):
            continue
        samples = f"stages.{index}.objective (sft, source: teacher) samples from the teacher"
        if len(teachers) > 1:
            yield Problem("teachers", len(teachers), f"{samples}, one for all tasks. Write teacher: {{...}}")
        elif not config.served_teachers:
            [(place, teacher)] = teachers.items()
            yield Problem(
                f"{place}.kind",
                teacher.kind,
                f"{samples}, and a remote one is only asked to score. Write kind: serve",
            )


def _who_teaches(config: RunConfig) -> Iterator[Problem]:
    """Every task has one teacher."""
    if config.teacher is not None and config.teachers:
        yield Problem("teachers", len(config.teachers), "teacher is there too. Write one of the two")
    names = list(dict.fromkeys(task.name for task in config.task_sections.values()))
    taught: dict[str, str] = {}
    for place, teacher in config.teacher_sections.items():
        for name in names if teacher.tasks is None else teacher.tasks:
            if name not in names:
                yield Problem(f"{place}.tasks", name, f"is no task of this recipe. Write some of {names}")
            elif name in taught:
                yield Problem(
                    f"{place}.tasks",
                    None if teacher.tasks is None else list(teacher.tasks),
                    f"{taught[name]} teaches {name} already. Say in tasks which teacher teaches which",
                )
            taught.setdefault(name, place)
    for name in names:
        if taught and name not in taught:
            yield Problem(
                "teacher.tasks" if config.teacher is not None else "teachers",
                list(taught),
                f"nobody teaches {name}. Name it in a teacher's tasks",
            )


def _data_files(config: RunConfig) -> Iterator[Problem]:
    from_solutions = [
        index
        for index, stage in enumerate(config.stages)
        if isinstance(stage.objective, SFT) and stage.objective.source == "trace"
    ]
    for place, task in config.task_sections.items():
        if not isinstance(task, MathTask):
            continue
        for part, files in (("train", task.train.files), ("evaluation", task.evaluation.files)):
            names = [file.subset for file in files]
            for index, name in enumerate(names):
                if name in names[:index]:
                    yield Problem(
                        f"{place}.{part}.files.{index}.name",
                        files[index].name,
                        f"another file is reported as {name} already. Write another name",
                    )
        for index, file in enumerate(task.train.files):
            if from_solutions and file.format == "chat":
                yield Problem(
                    f"{place}.train.files.{index}.format",
                    file.format,
                    "such rows have no worked solutions, which "
                    f"stages.{from_solutions[0]}.objective (sft, source: trace) trains on. "
                    "Take a file of format gsm8k or math, or source: teacher",
                )
