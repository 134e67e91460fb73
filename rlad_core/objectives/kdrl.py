"""KDRL: GRPO plus a distillation penalty, the main baseline of RLAD.

``log rho = log pi_theta - log pi_old``, A = the response's group-relative advantage, and the additive term
``beta * 0.5 * (log pi_T - log pi_theta)^2``, with ``beta = max(beta - beta_decay * step, beta_end)`` if
annealed.

Source: KDRL, arXiv 2506.02208: objective, the k2 estimator of KL(pi_theta || pi_T), annealing (there
``max(5e-3 - 5e-5 * step, 1e-3)``), and the masks that distil on wrong responses or in failed groups only.

Only k2 is offered. The gradient of k2 on the policy's own samples is that of the KL divergence.
Differentiating k1 = log pi_theta - log pi_T instead gives grad log pi_theta, in which the teacher drops
out; k3's is biased.

A masked token contributes nothing to the additive term, but still counts in the aggregation's denominator.

Groups whose rewards are all equal are left out with ``rollout.drop_uninformative``, though the additive term
would teach in them too: sampling rejects them for every method alike. With a mask, those without a right
response stay.

Statistics beside the surrogate's: ``distillation_loss`` (k2, over the distilled tokens
that are trained on), ``distillation_share`` (of all tokens that are), ``distillation_beta``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.ramp import ramp, ramp_problems
from rlad_core.objectives.surrogate import ClippedSurrogate
from rlad_core.objectives.teacher import ReadsTeacher
from rlad_core.sections.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor


class KDRL(ReadsTeacher, ClippedSurrogate):
    """GRPO plus a penalty beta * 0.5 * (log pi_T - log pi_theta)^2, the k2 estimator."""

    kind: str = "kdrl"
    beta: NonNegativeFloat = Field(
        default=2e-3, description="Weight of the distillation term at the first step."
    )
    beta_decay: NonNegativeFloat = Field(
        default=0.0,
        description="Beta falls by this much per step of the stage: max(beta - beta_decay*step, beta_end).",
    )
    beta_steps: PositiveInt | None = Field(
        default=None,
        description="Instead of beta_decay: beta goes to beta_end, up or down, over so many of the stage's "
        "steps.",
    )
    beta_end: NonNegativeFloat | None = Field(
        default=None, description="Beta's floor with beta_decay, or where beta_steps lead."
    )
    mask: Literal["none", "wrong_responses", "failed_groups"] = Field(
        default="none",
        description="Distil everywhere, on wrong responses, or in groups without a right response.",
    )

    @property
    def needs_teacher(self) -> bool:
        """Always."""
        return True

    @property
    def learns_from_failed_groups(self) -> bool:
        """With a mask that distils on wrong responses, of which such a group has no other."""
        return self.mask != "none"

    @property
    def needs_whole_groups(self) -> bool:
        """With the mask that distils where no response of the group is right."""
        return self.mask == "failed_groups"

    def problems(self) -> Iterator[Problem]:
        """See `Objective.problems`; an annealed beta has a floor below its start."""
        yield from super().problems()
        if self.beta_steps is not None:
            yield from ramp_problems("beta", self.beta_end, self.beta_steps)
            if self.beta_decay > 0:
                yield Problem("beta_decay", self.beta_decay, "beta_steps is there too. Write one of the two")
            return
        if self.beta_decay > 0 and self.beta_end is None:
            yield Problem("beta_end", None, "beta_decay needs a floor for beta. Write one, such as 0.001")
        if self.beta_end is not None and self.beta_decay == 0:
            yield Problem(
                "beta_end",
                self.beta_end,
                "has no effect without beta_decay or beta_steps. Write null, or one of them",
            )
        if self.beta_end is not None and self.beta_end > self.beta:
            yield Problem("beta_end", self.beta_end, f"is above beta, {self.beta}. Write at most {self.beta}")

    def beta_at(self, step: int) -> float:
        """The penalty's weight after ``step`` steps of the stage."""
        if self.beta_steps is not None:
            return ramp(self.beta, self.beta_end, self.beta_steps, step)
        return self.beta if self.beta_end is None else max(self.beta - self.beta_decay * step, self.beta_end)

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch."""
        import torch

        term = self.teacher_term(batch)
        distilled = term.counts & self._selected(batch)
        difference = term.teacher - term.policy
        # Masked before it is squared, so that whatever stands on a masked token can't reach the gradient.
        k2 = 0.5 * torch.where(distilled & batch.trained, difference, 0.0).square()
        beta = self.beta_at(step)
        return self.surrogate(
            batch,
            batch.policy_logprobs - batch.old_logprobs,
            batch.advantages,
            extra=beta * k2,
            statistics={
                "distillation_loss": batch.statistic(k2, distilled),
                "distillation_share": batch.statistic(distilled),
                "distillation_beta": Statistic(beta, 1.0),
                "kl_to_teacher": batch.statistic(-difference, term.counts),
            },
        )

    def _selected(self, batch: TokenBatch) -> Tensor:
        """Tokens that the mask leaves in, bool [T]."""
        import torch

        if self.mask == "none":
            return torch.ones_like(batch.policy_logprobs, dtype=torch.bool)
        name = "is_correct" if self.mask == "wrong_responses" else "group_has_correct"
        right: Tensor | None = getattr(batch, name)
        if right is None:
            raise ValueError(f"kdrl with mask {self.mask!r} needs TokenBatch.{name}, which is None")
        return ~right
