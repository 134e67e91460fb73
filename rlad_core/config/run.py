"""One run as one tree: ``RunConfig``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from rlad_core.config.base import Section
from rlad_core.config.checks import run_problems
from rlad_core.config.judging import VerifierConfig
from rlad_core.config.objectives import Objective
from rlad_core.config.sections import (
    ClusterConfig,
    EvaluationConfig,
    LearnerConfig,
    OutputConfig,
    PolicyConfig,
    RolloutConfig,
    ServeTeacher,
    Teacher,
    TelemetryConfig,
    WeightsConfig,
)
from rlad_core.config.tasks import Task


class Stage(Section):
    """A number of steps under one objective. Schedule and annealing start anew with each stage."""

    name: str | None = Field(default=None, description="Shown in tables; null: the objective's kind.")
    steps: PositiveInt
    objective: Objective
    lr: PositiveFloat | None = Field(default=None, description="null: learner.lr.")

    @property
    def label(self) -> str:
        """The stage's name for people."""
        return self.name or self.objective.kind


@dataclass(frozen=True)
class StagePosition:
    """Where a step of the run lies."""

    index: int
    """Of the stage."""
    stage: Stage
    step: int
    """The step counted from the stage's first, which is 0."""


_Part = TypeVar("_Part")


def _sections(name: str, one: _Part | None, several: tuple[_Part, ...]) -> dict[str, _Part]:
    alone = {} if one is None else {name: one}
    return alone | {f"{name}s.{place}": part for place, part in enumerate(several)}


class RunConfig(Section):
    """Everything that decides a run. Build it with :func:`rlad_core.config.load`."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The run's folder: letters, digits, '.', '_', '-'.",
    )
    seed: NonNegativeInt = 0
    policy: PolicyConfig
    teacher: Teacher | None = Field(default=None, description="Started only if a stage needs it.")
    teachers: tuple[Teacher, ...] = Field(
        default=(), strict=False, description="Instead of teacher: several, each with the tasks it teaches."
    )
    task: Task | None = Field(default=None, description="What is trained on and evaluated.")
    tasks: tuple[Task, ...] = Field(
        default=(), strict=False, description="Instead of task: several, whose prompts are shuffled together."
    )
    rollout: RolloutConfig = RolloutConfig()
    verifier: VerifierConfig = VerifierConfig()
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)]
    learner: LearnerConfig = LearnerConfig()
    weights: WeightsConfig = WeightsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    output: OutputConfig = OutputConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> RunConfig:
        problems = run_problems(self)
        if problems:
            # One pydantic error carries them all; `findings.problems_of` takes them apart again.
            raise PydanticCustomError(
                "sections_disagree",
                "{listing}",
                {"listing": "; ".join(map(str, problems)), "problems": problems},
            )
        return self

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def slots(self) -> int:
        """Groups that may be in work or waiting for the learner at the same time."""
        return (self.rollout.max_staleness + 1) * self.rollout.prompts_per_step

    @property
    def needs_teacher(self) -> bool:
        """Whether any stage asks the teacher; if not, none is started."""
        return any(stage.objective.needs_teacher for stage in self.stages)

    @property
    def scores_with_teacher(self) -> bool:
        """Whether any stage asks the teacher for log-probs, which a demonstrator is not asked for."""
        return any(s.objective.needs_teacher and s.objective.trains_on_rollouts for s in self.stages)

    @property
    def task_sections(self) -> dict[str, Task]:
        """Every task by its place in the recipe: ``task``, or ``tasks.0`` and so on."""
        return _sections("task", self.task, self.tasks)

    @property
    def teacher_sections(self) -> dict[str, Teacher]:
        """Every teacher by its place in the recipe: ``teacher``, or ``teachers.0`` and so on."""
        return _sections("teacher", self.teacher, self.teachers)

    @property
    def served_teachers(self) -> dict[str, ServeTeacher]:
        """The teachers that the run deploys itself, by their place in the recipe."""
        return {
            path: teacher
            for path, teacher in self.teacher_sections.items()
            if isinstance(teacher, ServeTeacher)
        }

    def teacher_of(self, task: str) -> str | None:
        """Where in the recipe the teacher of a task is; None where nobody teaches it."""
        for path, teacher in self.teacher_sections.items():
            if teacher.tasks is None or task in teacher.tasks:
                return path
        return None

    @property
    def run_dir(self) -> str:
        """The folder the run writes to."""
        return f"{self.output.dir.rstrip('/')}/{self.name}"

    @property
    def evaluation_response_length(self) -> int:
        """Tokens a response may have in evaluation."""
        return self.evaluation.max_response_length or self.rollout.max_response_length

    def position(self, step: int) -> StagePosition:
        """Find the stage of a step.

        Args:
            step: step of the run, counted from 0.

        Raises:
            IndexError: the run has no such step.
        """
        if step < 0:
            raise IndexError(f"steps are counted from 0, got {step}")
        first = 0
        for index, stage in enumerate(self.stages):
            if step < first + stage.steps:
                return StagePosition(index, stage, step - first)
            first += stage.steps
        raise IndexError(
            f"step {step} is past the end: the run has {self.total_steps} steps (0..{first - 1})"
        )

    def learning_rate(self, step: int) -> float:
        """Peak learning rate of the stage that a step lies in."""
        return self.position(step).stage.lr or self.learner.lr
