"""Rules about objectives that are computed from the teacher's hidden states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlad_core.config.teachers import PolicyTeacher, ServeTeacher
from rlad_core.sections.problems import Problem

if TYPE_CHECKING:
    from rlad_core.config.run import RunConfig

_WAY_OUT = "or source: top_k in the objective"


def hidden_state_problems(config: RunConfig) -> Iterator[Problem]:
    """The learner holds the head of one teacher, and asks its service while it works."""
    if not config.needs_hidden_states or not (teachers := config.teacher_sections):
        return
    if len(teachers) > 1:
        # Those of one task are mixed, which no objective of likely tokens is computed from.
        mixed = any(len(config.teachers_of(task.label)) > 1 for task in config.task_sections.values())
        way_out = "or an objective of the response's tokens, such as trrd with anchor: paper"
        yield Problem(
            "teachers",
            len(teachers),
            "source: hidden has the learner hold one teacher's head. Write teacher: {...}, "
            + (way_out if mixed else _WAY_OUT),
        )
        return
    [(place, teacher)] = teachers.items()
    if isinstance(teacher, PolicyTeacher):
        return  # told by `older_policy`
    if not isinstance(teacher, ServeTeacher):
        yield Problem(
            f"{place}.kind",
            teacher.kind,
            "source: hidden pulls hidden states from a teacher in the run's own cluster, whose model the "
            f"learner can read. Write kind: serve with engine: torch, {_WAY_OUT}",
        )
        return
    if teacher.engine != "torch":
        yield Problem(
            f"{place}.engine",
            teacher.engine,
            f"tells no hidden states, which source: hidden wants. Write engine: torch, {_WAY_OUT}",
        )
    if teacher.sleep:
        yield Problem(
            f"{place}.sleep",
            True,
            f"it is asked for hidden states while the learner works. Write false, {_WAY_OUT}",
        )
    if teacher.prefix is not None:
        yield Problem(
            f"{place}.prefix",
            teacher.prefix,
            "is not known to the learner, which asks for hidden states. Leave it out, or write "
            + _WAY_OUT.removeprefix("or "),
        )
