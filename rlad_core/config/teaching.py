"""Rules about a recipe's tasks and teachers: every task there once, and taught by somebody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rlad_core.config.evaluation_recipe import EvaluationRecipe
from rlad_core.config.hidden_states import hidden_state_problems
from rlad_core.config.mixing import mixing_problems, weighs
from rlad_core.config.older_policy import older_policy_problems
from rlad_core.config.run import RunConfig
from rlad_core.config.teachers import OpenAITeacher, OwnTeacher, ServeTeacher
from rlad_core.sections.problems import NOT_SET, Problem

_OVER_SUBSETS = frozenset(("all", "average"))
"""As `rlad_core.evaluation` has them, with which pyarrow would come, and `rlad plan` does without."""


def task_problems(config: EvaluationRecipe) -> Iterator[Problem]:
    """What does not fit between the tasks, or within one."""
    if config.task is not None and config.tasks:
        yield Problem("tasks", len(config.tasks), "task is there too. Write one of the two")
    if not config.task_sections:
        yield Problem("task", NOT_SET, "is needed: what is trained on and evaluated. Write task: {name: ...}")
    solutions_for = config.trains_on_solutions if isinstance(config, RunConfig) else None
    names: list[str] = []
    subsets: dict[str, str] = {}
    for place, task in config.task_sections.items():
        if task.label in names:
            yield Problem(f"{place}.name", task.name, "is there twice. Write one section with all its parts")
            continue
        names.append(task.label)
        if not task.evaluation_parts:
            yield Problem(f"{place}.evaluation", NOT_SET, "is needed: what is held out and evaluated")
        for part in task.evaluation_parts:
            if subsets.setdefault(part.subset, place) != place:
                yield Problem(
                    f"{place}.evaluation",
                    part.subset,
                    f"{subsets[part.subset]} reports a subset of that name already. Name the file otherwise",
                )
        for problem in task.problems(solutions_for=solutions_for):
            yield replace(problem, path=f"{place}.{problem.path}")
    if len(subsets) > 1:
        for name in sorted(_OVER_SUBSETS & subsets.keys()):
            yield Problem(
                f"{subsets[name]}.evaluation",
                name,
                "is what tables call a line over several subsets, and there are several. Give the subset "
                "another name: the file's name, or subsets of a task of your own",
            )


def teaching_problems(config: RunConfig) -> list[Problem]:
    """What does not fit between the tasks, the teachers and what the stages ask of them."""
    return [
        *_trained_on(config),
        *_teacher(config),
        *_who_teaches(config),
        *_tokens_told(config),
        *mixing_problems(config),
        *hidden_state_problems(config),
        *older_policy_problems(config),
    ]


def _trained_on(config: RunConfig) -> Iterator[Problem]:
    for place, task in config.task_sections.items():
        if not task.train_parts:
            yield Problem(f"{place}.train", NOT_SET, "is needed: what is trained on")


def _teacher(config: RunConfig) -> Iterator[Problem]:
    teachers = config.teacher_sections
    for index, stage in enumerate(config.stages):
        objective = stage.objective
        if objective.needs_teacher and not teachers:
            way_out = f", {objective.without_teacher}" if objective.without_teacher else ""
            yield Problem(
                "teacher",
                None,
                f"stages.{index}.objective ({objective.label}) needs a teacher. Write "
                f"teacher: {{kind: serve, model: ...}}{way_out}",
            )
        if not (objective.responses_of == "teacher" and teachers):
            continue
        samples = f"stages.{index}.objective ({objective.label}, source: teacher) samples from the teacher"
        if len(teachers) > 1:
            yield Problem("teachers", len(teachers), f"{samples}, one for all tasks. Write teacher: {{...}}")
        elif not any(teacher.can_demonstrate for teacher in teachers.values()):
            [(place, teacher)] = teachers.items()
            yield Problem(
                f"{place}.kind",
                teacher.kind,
                f"{samples}, and one of this kind is only asked to score. Write kind: serve",
            )


def _tokens_told(config: RunConfig) -> Iterator[Problem]:
    """Stages that want more than the log-probs of the response's tokens, of a teacher whose kind never tells
    it. What only the teacher itself knows it is asked when the run starts.
    """
    wanted = "the log-probs of likely tokens that {} ({}) wants"
    for index, stage in enumerate(config.stages):
        objective = stage.objective
        if not (objective.policy_top_k or objective.teacher_top_k):
            continue
        told = wanted.format(f"stages.{index}.objective", objective.label)
        named = f"cannot be asked for {told}, which the policy names. Write "
        for place, teacher in config.teacher_sections.items():
            if isinstance(teacher, OwnTeacher):
                said = f"does not tell {told}. Write kind: serve or http"
                yield Problem(f"{place}.kind", teacher.kind, said)
            elif objective.policy_top_k and isinstance(teacher, OpenAITeacher):
                yield Problem(f"{place}.kind", teacher.kind, named + "kind: serve or http")
            elif objective.policy_top_k and isinstance(teacher, ServeTeacher) and teacher.engine != "torch":
                yield Problem(f"{place}.engine", teacher.engine, named + "engine: torch")


def _who_teaches(config: RunConfig) -> Iterator[Problem]:
    """Every task has a teacher, or several with a weight each."""
    if config.teacher is not None and config.teachers:
        yield Problem("teachers", len(config.teachers), "teacher is there too. Write one of the two")
    names = list(dict.fromkeys(task.label for task in config.task_sections.values()))
    taught: dict[str, str] = {}
    for place, teacher in config.teacher_sections.items():
        for name in names if teacher.tasks is None else teacher.tasks:
            if name not in names:
                yield Problem(f"{place}.tasks", name, f"is no task of this recipe. Write some of {names}")
            elif name in taught and not (weighs(teacher) and weighs(config.teacher_sections[taught[name]])):
                yield Problem(
                    f"{place}.tasks",
                    None if teacher.tasks is None else list(teacher.tasks),
                    f"{taught[name]} teaches {name} already. Say in tasks which teacher teaches which, or "
                    "give each a weight, with which they are mixed",
                )
            taught.setdefault(name, place)
    for name in names:
        if taught and name not in taught:
            yield Problem(
                "teacher.tasks" if config.teacher is not None else "teachers",
                list(taught),
                f"nobody teaches {name}. Name it in a teacher's tasks",
            )
