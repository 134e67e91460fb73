"""What an objective is: settings that a recipe may write, and a formula that the learner calls.

A method is one file: a class that derives from `Objective`, or from `ClippedSurrogate` as all on-policy ones
do. A user's own is named by its place (``kind: my_objective.py:Mine``); no file of ours is touched for it.
torch is imported where something is computed, so that a recipe can be checked without it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field, PositiveInt

from rlad_core.objectives.aggregation import Aggregation, Lengths, aggregation_weights
from rlad_core.sections.base import Section
from rlad_core.sections.problems import Problem
from rlad_core.sections.resume import OnResume

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from rlad_core.objectives.interface import ObjectiveOutput, TokenBatch
    from rlad_core.objectives.returns import TokenReturns

_MOST: Final = 1e30
"""Of a setting: losses are computed in float32, and a product with another number has to fit too."""

ResponsesOf = Literal["policy", "teacher", "task"]
"""Who wrote what is trained on: the policy, a teacher that demonstrates, or the task (its solutions)."""


class Objective(Section):
    """What the learner minimises. Its fields are the objective's settings in a stage of a recipe."""

    on_resume: ClassVar[OnResume | None] = OnResume.FIXED

    uses_group_advantage: ClassVar[bool] = True
    """Whether the advantage comes from comparing rewards inside a group (so a group needs 2 responses)."""

    scales_advantage: ClassVar[bool] = True
    """Whether a group's advantages are divided by the standard deviation of its rewards."""

    needs_entropy: ClassVar[bool] = False
    """Whether every batch must have the policy's entropy; others have it in the steps that measure it
    (``learner.entropy_every``)."""

    normalises_returns: ClassVar[bool] = False
    """Whether the learner asks `token_returns` under pi_old before the first update and hands them back less
    their group's mean, divided by its spread: ``TokenBatch.token_advantages``."""

    kind: str = Field(description="A method's name, or the place of a class of your own: file.py:Name.")
    aggregation: Aggregation = Field(
        default="sequence_mean",
        description="sequence_mean: mean over responses of their token means (the paper); "
        "token_mean: one mean over all tokens; group_mean: mean over groups of their token means (TOP-D); "
        "fixed_length: sums divided by fixed_length (Dr. GRPO).",
    )
    fixed_length: PositiveInt | None = Field(
        default=None, description="Tokens a response counts as; only with aggregation fixed_length."
    )

    @property
    def label(self) -> str:
        """For people: the method's name, or the name of a user's class."""
        return self.kind.rpartition(":")[2]

    @property
    def learns_from_failed_groups(self) -> bool:
        """Whether ``rollout.drop_uninformative`` leaves groups without a right response in."""
        return False

    @property
    def needs_whole_groups(self) -> bool:
        """Whether what enters the loss is told by all rows of a group, so that a sample of rows won't do:
        ``TokenBatch.group_has_correct`` or ``token_advantages``.
        """
        return self.normalises_returns

    @property
    def needs_teacher(self) -> bool:
        """Whether a step under this objective needs the teacher."""
        return False

    @property
    def responses_of(self) -> ResponsesOf:
        """Who writes the responses of a batch."""
        return "policy"

    @property
    def trains_on_rollouts(self) -> bool:
        """Whether the batch holds responses sampled from the policy itself."""
        return self.responses_of == "policy"

    def responses_to_a_prompt(self, group_size: int) -> int:
        """In a batch: ``group_size`` where they are sampled, and the one solution that a task has."""
        return 1 if self.responses_of == "task" else group_size

    @property
    def scores_with_teacher(self) -> bool:
        """Whether the teacher is asked for log-probs, which a demonstrator is not."""
        return self.needs_teacher and self.trains_on_rollouts

    @property
    def compares_end_tokens(self) -> bool:
        """Whether what the teacher says of end tokens enters the loss."""
        return self.scores_with_teacher

    @property
    def needs_reference(self) -> bool:
        """Whether the frozen reference policy is asked for log-probs."""
        return False

    @property
    def teacher_top_k(self) -> int:
        """How many of its likeliest tokens a teacher tells for each place, ``TokenBatch.top_token_ids``."""
        return 0

    @property
    def policy_top_k(self) -> int:
        """How many of the policy's likeliest tokens a teacher is asked about at each place,
        ``TokenBatch.rollout_top_token_ids``.
        """
        return 0

    def hidden_alpha(self, step: int) -> float | None:
        """Share of the old policy in an anchor whose log Z is summed over the whole vocabulary, from the
        teacher's hidden states; None: the objective has none.

        Args:
            step: steps of this stage already done.
        """
        return None

    @property
    def without_teacher(self) -> str | None:
        """How to do without a teacher, for the error where there is none; completes "Write a teacher"."""
        return None

    def problems(self) -> Iterator[Problem]:
        """Settings that do not fit each other, or no loss, by the name of the field."""
        for name, value in self:
            if isinstance(value, float) and abs(value) > _MOST:
                advice = f"is too much for float32, in which losses are computed. Write at most {_MOST:g}"
                yield Problem(name, value, advice)
        if self.aggregation == "fixed_length" and self.fixed_length is None:
            yield Problem(
                "fixed_length",
                None,
                "aggregation fixed_length divides by it. Write a number, such as rollout.max_response_length",
            )
        if self.aggregation != "fixed_length" and self.fixed_length is not None:
            yield Problem(
                "fixed_length",
                self.fixed_length,
                f"has no effect with aggregation {self.aggregation}. Write null, or another aggregation",
            )

    def token_weights(self, lengths: Lengths, groups: Lengths | None = None) -> npt.NDArray[np.float64]:
        """Weight of each token of each response of the *global* batch, float64 [N]; `aggregation_weights`."""
        return aggregation_weights(lengths, self.aggregation, self.fixed_length, groups)

    def log_z(self, batch: TokenBatch, step: int) -> Tensor | None:
        """The log of a normaliser [T] that depends on pi_old alone; None: the objective has none.

        Where a batch is trained on more than once, the learner asks before the first update and keeps it,
        as ``TokenBatch.log_z``.

        Args:
            batch: whose policy is pi_old.
            step: steps of this stage already done.
        """
        return None

    def token_returns(self, batch: TokenBatch, step: int) -> TokenReturns:
        """What each token brings, where `normalises_returns` says that it is asked.

        Args:
            batch: whole responses, whose policy is pi_old.
            step: steps of this stage already done.
        """
        raise NotImplementedError(f"{self.label} says normalises_returns, and has no token_returns")

    @abstractmethod
    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch.

        Args:
            batch: the micro-batch's response tokens.
            step: steps of this stage already done, 0 at its first.

        Raises:
            ValueError: the batch lacks something this objective needs.
        """
