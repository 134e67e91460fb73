"""Settings of the objectives; the formulas are in ``rlad_core.objectives``, one file a method.

A stage names its objective by ``kind``; the other fields are exactly the arguments of the class that
computes it, so ``config.model_dump(exclude={"kind"})`` builds it.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from rlad_core.config.base import Section

Aggregation = Literal["sequence_mean", "token_mean", "fixed_length"]


class _Objective(Section):
    """How token losses become one number; common to all methods."""

    trains_on_rollouts: ClassVar[bool] = True
    """Whether the batch holds responses sampled from the policy itself."""
    uses_group_advantage: ClassVar[bool] = True
    """Whether the advantage comes from comparing rewards inside a group (so a group needs 2 responses)."""

    aggregation: Aggregation = Field(
        default="sequence_mean",
        description="sequence_mean: mean over responses of their token means (the paper); "
        "token_mean: one mean over all tokens; fixed_length: sums divided by fixed_length (Dr. GRPO).",
    )
    fixed_length: PositiveInt | None = Field(
        default=None, description="Tokens a response counts as; only with aggregation fixed_length."
    )

    @property
    def needs_teacher(self) -> bool:
        """Whether a step under this objective needs the teacher."""
        return False


class _ClippedObjective(_Objective):
    """The clipped surrogate that all on-policy methods share."""

    eps_low: float = Field(default=0.2, gt=0, lt=1, description="The ratio is clipped below at 1 - eps_low.")
    eps_high: PositiveFloat = Field(default=0.28, description="The ratio is clipped above at 1 + eps_high.")
    mismatch_cap: PositiveFloat | None = Field(
        default=2.0,
        description="Cap of the importance weight exp(old - rollout log-prob) that corrects the difference "
        "between inference engine and learner; null switches the correction off.",
    )


class GRPO(_ClippedObjective):
    """Group-relative policy optimisation, no teacher."""

    kind: Literal["grpo"] = "grpo"


class TRRD(_ClippedObjective):
    """Trust-region ratio distillation (RLAD): the ratio's anchor mixes old policy and teacher."""

    kind: Literal["trrd"] = "trrd"
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Share of the old policy in the anchor; 1 is GRPO."
    )
    teacher_clamp: PositiveFloat | None = Field(
        default=1.0, description="Bound of |log pi_theta - log pi_T| before it is mixed; null for none."
    )
    mask_end_token: bool = Field(
        default=False,
        description="Leave the response's last token out of the teacher term (end tokens may differ).",
    )

    @property
    def needs_teacher(self) -> bool:
        """At alpha = 1 the teacher has no weight, so it isn't asked."""
        return self.alpha < 1


class KDRL(_ClippedObjective):
    """GRPO plus a penalty beta * 0.5 * (log pi_T - log pi_theta)^2."""

    kind: Literal["kdrl"] = "kdrl"
    beta: NonNegativeFloat = Field(
        default=2e-3, description="Weight of the distillation term at the first step."
    )
    beta_decay: NonNegativeFloat = Field(
        default=0.0,
        description="Beta falls by this much per step of the stage: max(beta - beta_decay*step, beta_end).",
    )
    beta_end: NonNegativeFloat | None = Field(
        default=None, description="Beta's floor; needed with beta_decay."
    )
    mask: Literal["none", "wrong_responses", "failed_groups"] = Field(
        default="none",
        description="Distil everywhere, on wrong responses, or in groups without a right response.",
    )
    mask_end_token: bool = Field(
        default=False,
        description="Leave the response's last token out of the teacher term (end tokens may differ).",
    )

    @property
    def needs_teacher(self) -> bool:
        """KDRL always distils."""
        return True


class OPD(_ClippedObjective):
    """On-policy distillation: the advantage of a token is log pi_T - log pi_old, no reward."""

    uses_group_advantage: ClassVar[bool] = False

    kind: Literal["opd"] = "opd"
    teacher_clamp: PositiveFloat | None = Field(
        default=None, description="Bound of |log pi_T - log pi_old|; null for none."
    )
    mask_end_token: bool = Field(
        default=False, description="Leave the response's last token out (end tokens may differ)."
    )

    @property
    def needs_teacher(self) -> bool:
        """Without the teacher there is no advantage."""
        return True


class SFT(_Objective):
    """Cross-entropy on given responses; ``prompts_per_step`` responses a step, one per prompt."""

    trains_on_rollouts: ClassVar[bool] = False
    uses_group_advantage: ClassVar[bool] = False

    kind: Literal["sft"] = "sft"
    aggregation: Aggregation = Field(default="token_mean", description="As for the other objectives.")
    source: Literal["trace", "teacher"] = Field(
        default="trace",
        description="trace: the task's own worked solutions; teacher: responses of the teacher that the "
        "verifier accepts.",
    )

    @property
    def needs_teacher(self) -> bool:
        """Only the teacher's own responses need it."""
        return self.source == "teacher"


Objective = Annotated[TRRD | GRPO | KDRL | OPD | SFT, Field(discriminator="kind")]
