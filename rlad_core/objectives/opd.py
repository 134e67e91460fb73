"""OPD (on-policy distillation): the teacher is the reward, token by token.

``log rho = log pi_theta - log pi_old``, ``A = clamp(log pi_T - log pi_old, -c, c)`` per token, no additive
term and no reward. At the first update its gradient is an unbiased estimate of that of the per-token
KL(pi_theta || pi_T).

Source: the table of methods in RLAD's terms; on-policy distillation as in MiniLLM (arXiv 2306.08543) and GKD
(arXiv 2306.13649), here in the policy-gradient form.

Statistics beside the surrogate's: ``teacher_log_ratio``, the mean of log pi_old - log pi_T as it enters the
advantage (clamped), and ``teacher_log_ratio_clamped_share``, both over the tokens on which the teacher
counts.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveFloat

from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.surrogate import ClippedSurrogate
from rlad_core.objectives.teacher import MaskEndToken, teacher_term


class OPD(ClippedSurrogate):
    """On-policy distillation; ``TokenBatch.advantages`` isn't read."""

    uses_group_advantage: ClassVar[bool] = False

    kind: str = "opd"
    teacher_clamp: PositiveFloat | None = Field(
        default=None, description="Bound of |log pi_T - log pi_old|; null for none."
    )
    mask_end_token: MaskEndToken = False

    @property
    def needs_teacher(self) -> bool:
        """Without the teacher there is no advantage."""
        return True

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch; ``step`` doesn't matter."""
        teacher_logprobs, counts = teacher_term(batch, mask_end_token=self.mask_end_token, method="opd")
        unclamped = teacher_logprobs - batch.old_logprobs
        advantages = unclamped
        if self.teacher_clamp is not None:
            advantages = unclamped.clamp(-self.teacher_clamp, self.teacher_clamp)
        policy_logprobs = batch.policy_logprobs
        return self.surrogate(
            batch,
            policy_logprobs - batch.old_logprobs,
            advantages.masked_fill(~counts, 0.0),
            statistics={
                "teacher_log_ratio": Statistic.of(-advantages, counts),
                "teacher_log_ratio_clamped_share": Statistic.of(advantages != unclamped, counts),
                "kl_to_teacher": Statistic.of(policy_logprobs - teacher_logprobs, counts),
            },
        )
