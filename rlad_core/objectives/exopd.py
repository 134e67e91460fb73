"""ExOPD: on-policy distillation that goes on beyond the teacher, away from where the policy came from.

With pi_ref a frozen reference, distillation is reinforcement with the reward log pi_T - log pi_ref and a
KL(pi_theta || pi_ref) of weight 1; ExOPD makes that reward l times as large:

``A_t = l * (log pi_T - log pi_ref) - (log pi_old - log pi_ref) = d + (l - 1) * (log pi_T - log pi_ref)``

with d = log pi_T - log pi_old. At l = 1 it is OPD and the reference drops out; with l > 1 (1.25, as in the
paper) what the teacher has learned over the reference is extrapolated, with l < 1 interpolated.

The reference is the recipe's `reference`, such as the model that the policy starts from. Where all end tokens
are one outcome, nothing is extrapolated on them: of the reference the sampled token alone is known.

Source: arXiv 2602.12125, generalized on-policy distillation with reward extrapolation.

Statistics beside the family's: ``extrapolation``, the mean of (l - 1) * (log pi_T - log pi_ref) over the
trained tokens on which the teacher counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeFloat

from rlad_core.objectives.interface import Statistic, TokenBatch
from rlad_core.objectives.teacher_advantage import TeacherAdvantage

if TYPE_CHECKING:
    from torch import Tensor


class ExOPD(TeacherAdvantage):
    """On-policy distillation with the teacher's gain over a reference extrapolated."""

    kind: str = "exopd"
    factor: NonNegativeFloat = Field(
        default=1.25, description="l: how much of the teacher's gain over the reference; 1 is OPD."
    )

    @property
    def needs_reference(self) -> bool:
        """Unless it drops out."""
        return self.factor != 1 or super().needs_reference

    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """See the module."""
        if self.factor == 1:
            return log_ratio
        return log_ratio + (self.factor - 1) * self._gain(batch)

    def own_statistics(self, log_ratio: Tensor, advantages: Tensor, counts: Tensor) -> dict[str, Statistic]:
        """See the module."""
        return {"extrapolation": Statistic.of(advantages - log_ratio, counts)}

    def _gain(self, batch: TokenBatch) -> Tensor:
        """log pi_T - log pi_ref of the sampled tokens, 0 on end tokens that are one outcome."""
        if batch.reference_logprobs is None or batch.teacher_logprobs is None:
            raise ValueError(
                "exopd needs the log-probs of teacher and reference, TokenBatch.teacher_logprobs and "
                "reference_logprobs; write a reference in the recipe, or factor: 1"
            )
        gain = batch.teacher_logprobs - batch.reference_logprobs
        if batch.teacher_end_logprobs is None or batch.is_end is None or self.mask_end_token:
            return gain
        return gain.masked_fill(batch.is_end, 0.0)
