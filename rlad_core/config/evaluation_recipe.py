"""What an evaluation needs of a recipe: model, held-out prompts, engines. A run's recipe has it and more."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import Field, NonNegativeInt

from rlad_core.config.cluster import ClusterConfig
from rlad_core.config.engines import VerifierSettings
from rlad_core.config.settings import EvaluationConfig, PolicyConfig, RolloutConfig
from rlad_core.config.telling import TelemetryConfig
from rlad_core.sections import code
from rlad_core.sections.base import NAME_LENGTH, NAME_PATTERN, Section
from rlad_core.sections.paths import CHECKED
from rlad_core.sections.resume import Fixed, Free
from rlad_core.tasks import AnyTask, TaskSection

_Part = TypeVar("_Part")
Recipe = TypeVar("Recipe", bound="EvaluationRecipe")


class EvaluationRecipe(Section):
    """Everything that decides an evaluation."""

    name: Fixed[str] = Field(
        pattern=NAME_PATTERN,
        max_length=NAME_LENGTH,
        description="The run's folder: letters, digits, '.', '_', '-'.",
    )
    seed: Fixed[NonNegativeInt] = Field(default=0, lt=2**63)
    strict: Free[bool] = Field(
        default=False,
        description="Refuse to start where a prompt cannot be used; false: it is left out and named.",
    )
    policy: PolicyConfig
    task: Fixed[AnyTask | None] = Field(default=None, description="What is trained on and evaluated.")
    tasks: Fixed[tuple[AnyTask, ...]] = Field(
        default=(), strict=False, description="Instead of task: several, whose prompts are shuffled together."
    )
    rollout: RolloutConfig = RolloutConfig()
    verifier: VerifierSettings = VerifierSettings()
    evaluation: EvaluationConfig = EvaluationConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    cluster: ClusterConfig = ClusterConfig()

    @property
    def services_name(self) -> str:
        """What the run's services and actors are called in its cluster."""
        return self.cluster.services or self.name

    @property
    def task_sections(self) -> dict[str, TaskSection]:
        """Every task by its place in the recipe: ``task``, or ``tasks.0`` and so on."""
        return by_place("task", self.task, self.tasks)

    @property
    def evaluation_response_length(self) -> int:
        """Tokens a response may have in evaluation."""
        return self.evaluation.max_response_length or self.rollout.max_response_length

    @property
    def code_places(self) -> tuple[str, ...]:
        """Places of the code that the user brings, see `rlad_core.sections.code`."""
        return tuple(place for task in self.task_sections.values() for place in task.code)

    @property
    def code(self) -> dict[str, str]:
        """That code by path, for other processes: they `receive` it before they read the recipe.

        Raises:
            CodeError: a file is not there any more.
        """
        return code.sources_of(self.code_places)

    def __reduce__(self) -> tuple[Any, ...]:
        """To other processes it goes as plain values, with the user's code that it may be made of."""
        return arrived, (type(self), self.model_dump(mode="json"), self.code)


def arrived(kind: type[Recipe], values: dict[str, Any], sources: dict[str, str]) -> Recipe:
    """A recipe that was checked in another process, with the code that it needs.

    Args:
        values: of ``model_dump(mode="json")``.
        sources: `EvaluationRecipe.code`.
    """
    code.receive(sources)
    return kind.model_validate(values, context={CHECKED: True})


def by_place(name: str, one: _Part | None, several: tuple[_Part, ...]) -> dict[str, _Part]:
    """Sections of which a recipe has one or a list, by their place in it."""
    alone = {} if one is None else {name: one}
    return alone | {f"{name}s.{place}": part for place, part in enumerate(several)}
