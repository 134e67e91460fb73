"""Rules about a teacher that is an older version of the policy, which the learner keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlad_core.config.teachers import PolicyTeacher
from rlad_core.sections.problems import Problem

if TYPE_CHECKING:
    from rlad_core.config.run import RunConfig

_OF_A_SERVICE = ("verify", "verify_one_in", "verify_tolerance")
_WAY_OUT = "Write kind: serve, with the model that the policy starts from"


def older_policy_problems(config: RunConfig) -> Iterator[Problem]:
    """It is asked by the learner, about the response's tokens alone, and about every response."""
    if isinstance(config.reference, PolicyTeacher):
        yield Problem("reference.kind", config.reference.kind, f"is a teacher's. {_WAY_OUT}")
    found = {
        place: teacher
        for place, teacher in config.teacher_sections.items()
        if isinstance(teacher, PolicyTeacher)
    }
    for place, teacher in found.items():
        if len(config.teacher_sections) > 1:
            yield Problem(
                f"{place}.kind",
                teacher.kind,
                f"has no other teacher beside it. {_WAY_OUT}, or leave the others out",
            )
        elif teacher.tasks is not None:
            yield Problem(f"{place}.tasks", list(teacher.tasks), "it teaches every task. Leave it out")
        for name in _OF_A_SERVICE:
            if (value := getattr(teacher, name)) != type(teacher).model_fields[name].default:
                yield Problem(
                    f"{place}.{name}", value, "has no effect: its scores come from no service. Leave it out"
                )
        for index, stage in enumerate(config.stages):
            objective, path = stage.objective, f"stages.{index}.objective"
            if objective.teacher_top_k or objective.policy_top_k or objective.hidden_alpha(0) is not None:
                yield Problem(
                    f"{place}.kind",
                    teacher.kind,
                    f"tells the log-probs of the response's tokens alone, and {path} ({objective.label}) "
                    f"wants more. {_WAY_OUT}",
                )
            if stage.until is not None and stage.until.disagreement is not None and teacher.prefix is None:
                yield Problem(
                    f"stages.{index}.until.disagreement",
                    stage.until.disagreement,
                    f"where it is renewed, {place} is the policy itself, and rounding decides the signs. "
                    "Write null, or give the teacher a prefix",
                )
