"""Arguments of the verifier service, as a run, a Serve config file or a test says them. Imports no Ray."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from rlad_core.config import EvaluationRecipe, VerifierSettings
from rlad_core.sections import code
from rlad_core.tasks import TaskSpec, shipped
from services.serve.replica_settings import ReplicaArgs

_FORMS = "module:Class, file.py:Class or {place: file.py:Class, settings: {...}}"
_KEYS = tuple(field.name for field in fields(TaskSpec))


def _spec(value: Any) -> Any:
    """What somebody wrote for a task as the fields of `TaskSpec`, with an absolute path."""
    said = (
        asdict(value)
        if isinstance(value, TaskSpec)
        else {"place": value}
        if isinstance(value, str)
        else value
    )
    if not isinstance(said, Mapping) or not code.is_place(place := said.get("place")):
        raise ValueError(f"{value!r} names no task; write {_FORMS}")
    if unknown := [str(key) for key in said if key not in _KEYS]:
        raise ValueError(f"{', '.join(unknown)} is not known; a task has {', '.join(_KEYS)}")
    # By the folder of whoever writes it: where it is judged is another process, maybe on another machine.
    return {"settings": {}, "preload": None, **said, "place": code.absolute(str(place), Path.cwd())}


JudgedTask = Annotated[TaskSpec, BeforeValidator(_spec)]


class VerifierLimits(BaseModel):
    """What one request may ask for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_responses_per_request: int = Field(default=16384, gt=0)
    max_solved_prompts_per_request: int = Field(
        default=1024, gt=0, description="Different prompts that come without their gold."
    )
    max_body_bytes: int = Field(default=64 * 2**20, gt=0, description="Of an HTTP request.")
    max_queued_responses: int = Field(
        default=65536,
        gt=0,
        description="Responses that wait in one replica; what comes on top is refused with 429.",
    )
    timeout_s: float = Field(default=600.0, gt=0, description="Longest time for one request's rewards.")


class VerifierArgs(VerifierSettings, ReplicaArgs):
    """Arguments of the application."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    tasks: dict[str, JudgedTask] = Field(
        default_factory=shipped,
        description="Name -> task that is judged here: module:Class, file.py:Class (relative to the current "
        "folder), or {place, settings, preload} with arguments of the class; {settings} alone for a task "
        "that ships. By default all that ship.",
    )
    code: dict[str, str] = Field(
        default={}, description="Path -> text of the users' files that tasks need; rlad fills it in."
    )
    limits: VerifierLimits = VerifierLimits()

    def with_code(self) -> Self:
        """With the text of the users' files that the tasks and their settings name.

        Raises:
            CodeError: a file cannot be read.
        """
        places = [spec.place for spec in self.tasks.values()]
        places += [
            value for spec in self.tasks.values() for value in spec.settings.values() if code.is_place(value)
        ]
        return self.model_copy(update={"code": {**self.code, **code.sources_of(places)}})

    @field_validator("tasks", mode="before")
    @classmethod
    def _with_places(cls, tasks: Any) -> Any:
        """The place and preload of a shipped task, where {math: {settings: ...}} is all that is written."""
        if not isinstance(tasks, Mapping):
            return tasks
        known = shipped()
        return {
            name: {**asdict(known[name]), **value}
            if isinstance(value, Mapping) and "place" not in value and name in known
            else value
            for name, value in tasks.items()
        }

    @classmethod
    def of_run(cls, recipe: EvaluationRecipe) -> Self:
        """The verifier of a run or an evaluation, for its own tasks alone.

        It is never refused, whatever the size of its groups, and judges for as long as the run itself waits:
        checks that hang have their own limit, and the groups of a step wait for each other's.
        """
        return cls(
            run=recipe.services_name,
            tasks={section.label: section.judge() for section in recipe.task_sections.values()},
            code=recipe.code,
            limits=VerifierLimits(
                max_responses_per_request=2**31,
                max_queued_responses=2**31,
                timeout_s=recipe.rollout.timeout_s,
            ),
            **recipe.verifier.model_dump(),
        )
