"""OPD (on-policy distillation): the teacher is the reward, token by token.

``log rho = log pi_theta - log pi_old``, ``A = clamp(log pi_T - log pi_old, -c, c)`` per token, no additive
term and no reward. At the first update its gradient is an unbiased estimate of that of the per-token
KL(pi_theta || pi_T).

Source: the table of methods in RLAD's terms; on-policy distillation as in MiniLLM (arXiv 2306.08543) and GKD
(arXiv 2306.13649), here in the policy-gradient form.

Statistics beside the family's: ``teacher_log_ratio``, the mean of log pi_old - log pi_T as it enters the
advantage (clamped), and ``teacher_log_ratio_clamped_share``, both over the trained tokens on which the
teacher counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat

from rlad_core.objectives.interface import Statistic, TokenBatch
from rlad_core.objectives.teacher_advantage import TeacherAdvantage

if TYPE_CHECKING:
    from torch import Tensor


class OPD(TeacherAdvantage):
    """On-policy distillation; ``TokenBatch.advantages`` isn't read."""

    kind: str = "opd"
    teacher_clamp: PositiveFloat | None = Field(
        default=None, description="Bound of |log pi_T - log pi_old|; null for none."
    )

    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """The log-ratio itself, within the clamp."""
        if self.teacher_clamp is None:
            return log_ratio
        return log_ratio.clamp(-self.teacher_clamp, self.teacher_clamp)

    def own_statistics(self, log_ratio: Tensor, advantages: Tensor, counts: Tensor) -> dict[str, Statistic]:
        """See the module."""
        return {
            "teacher_log_ratio": Statistic.of(-advantages, counts),
            "teacher_log_ratio_clamped_share": Statistic.of(advantages != log_ratio, counts),
        }
