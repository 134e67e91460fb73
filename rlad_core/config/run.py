"""One run as one tree: ``RunConfig``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from rlad_core.config.evaluation_recipe import EvaluationRecipe, by_place
from rlad_core.config.settings import LearnerConfig, WeightsConfig
from rlad_core.config.stage_end import StageEnd
from rlad_core.config.teachers import (
    AnyTeacher,
    Manner,
    OwnTeacher,
    PolicyTeacher,
    ServeTeacher,
    TeacherSection,
)
from rlad_core.config.telling import OutputConfig
from rlad_core.objectives import KINDS, AnyObjective
from rlad_core.sections.base import Section
from rlad_core.sections.resume import Fixed, Free, Grows

REFERENCE = "reference"
"""The place of the frozen reference in a recipe."""


class Stage(Section):
    """A number of steps under one objective. Schedule and annealing start anew with each stage."""

    name: Free[str | None] = Field(default=None, description="Shown in tables; null: the objective's kind.")
    steps: Grows[PositiveInt]
    objective: Fixed[AnyObjective]
    lr: Fixed[PositiveFloat | None] = Field(default=None, description="null: learner.lr.")
    until: Fixed[StageEnd | None] = Field(
        default=None,
        description="Ends the stage before its steps are done; the next stage has those that are left.",
    )

    @property
    def label(self) -> str:
        """The stage's name for people."""
        return self.name or self.objective.label


@dataclass(frozen=True)
class StagePosition:
    """Where a step of the run lies."""

    index: int
    """Of the stage."""
    stage: Stage
    step: int
    """The step counted from the stage's first, which is 0."""
    steps: int
    """Of the stage, if no rule ends it: its own, and what the one before left of its."""


class RunConfig(EvaluationRecipe):
    """Everything that decides a run. Build it with :func:`rlad_core.config.load`, which checks the whole."""

    teacher: Fixed[AnyTeacher | None] = Field(default=None, description="Started only if a stage needs it.")
    teachers: Fixed[tuple[AnyTeacher, ...]] = Field(
        default=(),
        strict=False,
        description="Instead of teacher: several, each with the tasks it teaches; those that teach one task "
        "are mixed, with the weight of each.",
    )
    mixture: Fixed[Manner] = Field(
        default="probabilities",
        description="Of several teachers of one task. probabilities: the log of the weighted mean of their "
        "probabilities; logprobs: the weighted mean of their log-probs.",
    )
    reference: Fixed[AnyTeacher | None] = Field(
        default=None,
        description="A frozen policy that objectives with reference_kl hold on to; served or asked as a "
        "teacher is.",
    )
    stages: Annotated[Grows[tuple[Stage, ...]], Field(strict=False, min_length=1)]
    learner: LearnerConfig = LearnerConfig()
    weights: WeightsConfig = WeightsConfig()
    output: OutputConfig = OutputConfig()

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def slots(self) -> int:
        """Groups that may be in work or waiting for the learner at the same time."""
        return (self.rollout.max_staleness + 1) * self.rollout.prompts_per_step

    @property
    def window(self) -> int:
        """Groups that younger ones may overtake at a time; as many may be alive beyond the slots."""
        share = self.rollout.overtake_window
        if not self.rollout.max_staleness or not share:
            return 0
        # 0.35 of 180 is 62.99.. in binary, and 63 by the recipe. Of two slots or three it would be none.
        return max(1, int(round(share * self.slots, 6)))

    @property
    def needs_teacher(self) -> bool:
        """Whether any stage asks the teacher; if not, none is started."""
        return any(stage.objective.needs_teacher for stage in self.stages)

    @property
    def scores_with_teacher(self) -> bool:
        """Whether any stage asks the teacher for log-probs, which a demonstrator is not asked for."""
        return any(stage.objective.scores_with_teacher for stage in self.stages)

    @property
    def teacher_top_k(self) -> int:
        """The most likely tokens that any stage asks of the teacher at each place."""
        return max(stage.objective.teacher_top_k for stage in self.stages)

    @property
    def needs_hidden_states(self) -> bool:
        """Whether any stage is computed from the teacher's hidden states."""
        return any(stage.objective.hidden_alpha(0) is not None for stage in self.stages)

    @property
    def policy_top_k(self) -> int:
        """The most of the policy's likely tokens that any stage asks the teacher about at each place."""
        return max(stage.objective.policy_top_k for stage in self.stages)

    @property
    def responses_per_step(self) -> int:
        """That are trained on, in the stage that has most."""
        each = (stage.objective.responses_to_a_prompt(self.rollout.group_size) for stage in self.stages)
        return self.rollout.prompts_per_step * max(each)

    @property
    def demonstrates(self) -> bool:
        """Whether any stage trains on the teacher's own responses."""
        return any(stage.objective.responses_of == "teacher" for stage in self.stages)

    @property
    def trains_on_solutions(self) -> str | None:
        """The first stage that trains on the tasks' worked solutions, in words; None: none does."""
        for index, stage in enumerate(self.stages):
            if stage.objective.responses_of == "task":
                return f"stages.{index}.objective ({stage.objective.label}, source: trace)"
        return None

    @property
    def teacher_sections(self) -> dict[str, TeacherSection]:
        """Every teacher by its place in the recipe: ``teacher``, or ``teachers.0`` and so on."""
        return by_place("teacher", self.teacher, self.teachers)

    @property
    def needs_reference(self) -> bool:
        """Whether any stage holds on to the frozen reference."""
        return any(stage.objective.needs_reference for stage in self.stages)

    @property
    def scorers(self) -> dict[str, TeacherSection]:
        """All that the run asks, the teachers and the reference, by their place in the recipe; not a teacher
        that the learner itself keeps.
        """
        asked = self.needs_teacher and self.policy_teacher is None
        return (self.teacher_sections if asked else {}) | (
            {} if self.reference is None else {REFERENCE: self.reference}
        )

    @property
    def policy_teacher(self) -> PolicyTeacher | None:
        """The teacher, where it is an older version of the policy. The learner keeps it also where no stage
        asks it: a resumed run may have one more.
        """
        [one] = self.teacher_sections.values() if len(self.teacher_sections) == 1 else [None]
        return one if isinstance(one, PolicyTeacher) else None

    @property
    def learner_reads(self) -> int:
        """Tokens of the longest sequence that goes through the learner."""
        own, longest = self.policy_teacher, self.policy.max_length
        return longest if own is None or not self.scores_with_teacher else own.longest(longest)

    @property
    def served_teachers(self) -> dict[str, ServeTeacher]:
        """The teachers, and the reference, that the run deploys itself, by their place in the recipe."""
        everyone = self.teacher_sections | ({} if self.reference is None else {REFERENCE: self.reference})
        return {path: teacher for path, teacher in everyone.items() if isinstance(teacher, ServeTeacher)}

    @property
    def scoring_services(self) -> dict[str, ServeTeacher]:
        """Those of them that are asked for log-probs; one that only demonstrates is none."""
        return {
            place: teacher
            for place, teacher in self.served_teachers.items()
            if place == REFERENCE or self.scores_with_teacher
        }

    @property
    def demonstrators(self) -> dict[str, ServeTeacher]:
        """Those of them that are asked for responses of their own."""
        return {
            place: teacher
            for place, teacher in self.served_teachers.items()
            if place != REFERENCE and self.demonstrates
        }

    @property
    def teacher_devices(self) -> tuple[Literal["GPU", "core"], float]:
        """What its teachers compute on, and how many of these: GPUs, or cores where none has one.

        0 where none scores, or one of them is elsewhere, on nobody knows what.
        """
        if self.policy_teacher is not None and self.scores_with_teacher:
            learner = self.learner
            if learner.num_gpus:
                return "GPU", learner.num_gpus * learner.workers
            return "core", float(learner.threads * learner.workers)
        served = [each for place, each in self.served_teachers.items() if place != REFERENCE]
        if not self.scores_with_teacher or len(served) < len(self.teacher_sections):
            return "core", 0.0
        if gpus := sum(each.num_gpus * each.num_replicas for each in served):
            return "GPU", gpus
        return "core", float(sum(each.threads * each.num_replicas for each in served))

    @property
    def reserved_cpus(self) -> float:
        """Logical CPUs that the replicas and ranks of a run reserve, the verifier's one among them."""
        roles = (self.rollout, *self.scoring_services.values(), *self.demonstrators.values())
        of_services = sum(role.num_replicas * role.num_cpus for role in roles)
        return 1 + of_services + self.learner.workers * self.learner.num_cpus

    def teachers_of(self, task: str) -> tuple[str, ...]:
        """Where in the recipe the teachers of a task are; several are mixed."""
        return tuple(
            path
            for path, teacher in self.teacher_sections.items()
            if teacher.tasks is None or task in teacher.tasks
        )

    @property
    def run_dir(self) -> str:
        """The folder the run writes to."""
        return f"{self.output.dir.rstrip('/')}/{self.name}"

    @property
    def code_places(self) -> tuple[str, ...]:
        """See `EvaluationRecipe.code_places`; here objectives and teachers may be the user's too."""
        kinds = [stage.objective.kind for stage in self.stages if stage.objective.kind not in KINDS]
        scorers = [*self.teacher_sections.values(), *filter(None, (self.reference,))]
        kinds += [each.kind for each in scorers if isinstance(each, OwnTeacher)]
        return (*super().code_places, *kinds)

    def position(self, step: int, early_ends: Mapping[int, int] | None = None) -> StagePosition:
        """Find the stage of a step.

        Args:
            step: step of the run, counted from 0.
            early_ends: number of a stage that a rule ended -> the first step after it; None: none was.

        Raises:
            IndexError: the run has no such step.
        """
        if step < 0:
            raise IndexError(f"steps are counted from 0, got {step}")
        first = left = 0
        for index, stage in enumerate(self.stages):
            steps = stage.steps + left
            end = (early_ends or {}).get(index, first + steps)
            if step < end:
                return StagePosition(index, stage, step - first, steps)
            first, left = end, first + steps - end
        raise IndexError(
            f"step {step} is past the end: the run has {self.total_steps} steps (0..{first - 1})"
        )

    def learning_rate(self, step: int, early_ends: Mapping[int, int] | None = None) -> float:
        """Peak learning rate of the stage that a step lies in, see `position`."""
        return self.position(step, early_ends).stage.lr or self.learner.lr
