"""The section `teacher`: who teaches, and where it lives. One class a kind, told apart by `kind`."""

from __future__ import annotations

from abc import abstractmethod
from string import Formatter
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from rlad_core.config.engines import TeacherEngine
from rlad_core.sections.addresses import address_of
from rlad_core.sections.base import Section, Wait
from rlad_core.sections.chosen import Chosen, subclass_at
from rlad_core.sections.paths import RecipePath
from rlad_core.sections.resume import Fixed, Free

if TYPE_CHECKING:
    import pyarrow as pa


def parts_of_prefix(prefix: str) -> list[tuple[str, str | None]]:
    """A prefix as texts, each with the name that stands in braces after it; None: none does.

    Raises:
        ValueError: a brace is alone, or something else than a name stands in a pair.
    """
    try:
        parts = list(Formatter().parse(prefix))
    except ValueError as error:
        raise ValueError(f"{error}. Write {{{{ and }}}} for braces that are meant as such") from error
    for _, name, form, conversion in parts:
        if name is not None and (not name.strip() or form or conversion or "[" in name):
            raise ValueError(
                f"has {{{name}}}, and in braces stands a name. Write {{solution}}, or {{{{ for {{"
            )
    return [(text, name) for text, name, _, _ in parts]


def checked_prefix(prefix: str) -> str:
    """A prefix whose braces hold names."""
    parts_of_prefix(prefix)
    return prefix


Manner = Literal["probabilities", "logprobs"]
"""Of a mixture of teachers, see `rlad_core.mixture`."""


class TeacherSection(Section):
    """What all teachers have in common."""

    can_demonstrate: ClassVar[bool] = False
    """Whether it can be asked for responses of its own, and not only to score."""

    kind: Fixed[str] = Field(
        description="serve, http, openai, policy, or the place of a class of your own: file.py:Name."
    )
    tasks: Fixed[tuple[str, ...] | None] = Field(
        default=None,
        strict=False,
        min_length=1,
        description="Names of the tasks it teaches; null: every task of the recipe.",
    )
    weight: Fixed[PositiveFloat | dict[str, PositiveFloat] | None] = Field(
        default=None,
        description="What it counts where several teach a task and are mixed: a number, or one for each task "
        "by its name.",
    )
    weight_column: Fixed[str | None] = Field(
        default=None,
        min_length=1,
        description="Column of the data that has its weight for each prompt; 0: it is not asked.",
    )
    prefix: Fixed[Annotated[str, AfterValidator(checked_prefix)] | None] = Field(
        default=None,
        min_length=1,
        description="A text that it alone reads, before the last message of the user; a name in braces, such "
        "as {solution} or {answer}, is what the prompt's data have under it.",
    )
    prefix_tokens: Fixed[PositiveInt] = Field(
        default=512, description="Tokens by which its prompts may be longer than the policy's."
    )
    verify: Free[bool] = Field(
        default=True,
        description="Compare its scores in every step, before the update, with what was pinned when the run "
        "began, and some of them with the same scored again; what differs stops the run.",
    )
    verify_one_in: Free[PositiveInt] = Field(
        default=500, description="Of so many sequences of a step one is scored again, and at least one."
    )
    verify_tolerance: Free[PositiveFloat | None] = Field(
        default=None,
        description="Mean difference per token, in nats, that counts as rounding; null: by the precision "
        "(float32 0.0001, bfloat16 and what is not known 0.05).",
    )

    @property
    @abstractmethod
    def where(self) -> str:
        """For people: the model, and where it is if that is elsewhere."""

    def weight_for(self, task: str) -> float:
        """What it counts for a task of those that it teaches, where no column says it."""
        weight = self.weight.get(task) if isinstance(self.weight, dict) else self.weight
        return 1.0 if weight is None else weight

    def longest(self, max_length: int) -> int:
        """Tokens of its longest sequence, where the policy's has ``max_length``."""
        return max_length + (0 if self.prefix is None else self.prefix_tokens)


class ServeTeacher(TeacherEngine, TeacherSection):
    """A teacher deployed in the run's own Ray cluster."""

    can_demonstrate: ClassVar[bool] = True

    kind: Fixed[str] = "serve"
    timeout_s: Free[Wait] = Field(default=600.0, description="Longest wait for one call's scores.")

    @property
    def where(self) -> str:
        """The model."""
        return self.model


class RemoteTeacher(TeacherSection):
    """What teachers elsewhere have in common."""

    url: Free[Annotated[str, AfterValidator(address_of)]] = Field(
        description="For instance http://teacher.example:8000, without a route such as /v1/score."
    )
    token_env: Free[str | None] = Field(
        default=None, description="Environment variable of the run that holds the bearer token."
    )
    token_file: Free[RecipePath | None] = Field(default=None, description="File that holds it.")
    connections: Free[PositiveInt] = Field(default=8, description="Requests at a time.")
    call_timeout_s: Free[Wait] = Field(default=120.0, description="Longest wait for one request.")
    timeout_s: Free[Wait] = Field(
        default=1800.0,
        description="Longest wait for it with its repetitions, e.g. while the teacher restarts.",
    )


class HttpTeacher(RemoteTeacher):
    """A teacher behind our REST interface (`rlad serve teacher`), with Arrow on the wire."""

    kind: Fixed[str] = "http"

    @property
    def where(self) -> str:
        """The address."""
        return self.url


class OpenAITeacher(RemoteTeacher):
    """A stock vLLM server."""

    kind: Fixed[str] = "openai"
    model: Fixed[str] = Field(min_length=1, description="As the server calls it.")
    api: Free[Literal["completions", "generate"]] = Field(
        default="completions",
        description="completions: /v1/completions with prompt_logprobs; generate: /inference/v1/generate of "
        "a server that runs with --enable-scale-out.",
    )

    @property
    def where(self) -> str:
        """Model and address."""
        return f"{self.model} at {self.url}"


class PolicyTeacher(TeacherSection):
    """An older version of the policy itself, which the learner keeps beside it and asks before its update.

    It is in no service: each rank has its part of the older weights, and a checkpoint has them too.
    """

    kind: Fixed[str] = "policy"
    every: Fixed[PositiveInt | None] = Field(
        default=None,
        description="Steps after which the policy as it is then takes its place; null: it stays the one that "
        "the run, or a fork, begins with.",
    )

    @property
    def where(self) -> str:
        """Which version of the policy."""
        if self.every is None:
            return "the policy at its start"
        return f"the policy, renewed every {'step' if self.every == 1 else f'{self.every} steps'}"

    def is_renewed(self, step: int) -> bool:
        """Whether the policy takes its place at the beginning of a step, counted from 0."""
        return self.every is not None and step % self.every == 0


class OwnTeacher(TeacherSection):
    """Base of a teacher of a user's own: its fields are its settings, and `score` answers.

    It is made once in the process that collects experience, and asked on that process's event loop.
    """

    timeout_s: Free[Wait] = Field(default=600.0, description="Longest wait for one call's scores.")

    @property
    def where(self) -> str:
        """The class."""
        return type(self).__name__

    @abstractmethod
    async def score(self, sequences: pa.Table) -> pa.Table:
        """Log-probs of the responses.

        Args:
            sequences: SEQUENCES (`rlad_core.schema`), any number of rows.

        Returns:
            TEACHER_SCORES, the same ids in the same order; `rlad_core.schema.build` makes it.
        """

    async def close(self) -> None:
        """Give back what is held."""


KINDS: dict[str, type[TeacherSection]] = {
    "serve": ServeTeacher,
    "http": HttpTeacher,
    "openai": OpenAITeacher,
    "policy": PolicyTeacher,
}


def _own(place: str) -> type[TeacherSection]:
    made: type[TeacherSection] = subclass_at(place, OwnTeacher, "teacher")
    return made


AnyTeacher = Annotated[TeacherSection, Chosen(key="kind", known=KINDS, own=_own, default="serve")]
"""A recipe's teacher: one of `KINDS` (`serve` may be left out), or a user's class by its place."""
