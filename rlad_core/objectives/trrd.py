"""TRRD (RLAD): the anchor of the trust region mixes the old policy and the teacher.

``log rho = alpha * (log pi_theta - log pi_old) + (1 - alpha) * clamp(log pi_theta - log pi_T, -c, c)``,
A = the response's group-relative advantage, no additive term.

Source: "Reinforcement-aware Knowledge Distillation for LLM Reasoning", arXiv 2602.22495, Eq. 3 (ratio), Eq. 4
(objective, here without its reference KL), Appendix B (clamp, c = 1).

What to know of it:

- alpha = 1 is GRPO to the last bit, and the teacher isn't needed. (A sentence of the paper's section 4.1
  says the opposite of its Eq. 3 and Appendix C; the equations are right.)
- The paper doesn't say whether the clamp passes a gradient. Here it is differentiated as written, by
  autograd: where it saturates, the teacher term is constant and a token's gradient is scaled by alpha.
- At the first update pi_theta = pi_old, so rho isn't 1 but (pi_old / pi_T)^(1 - alpha) within the clamp: a
  part of the tokens starts outside the clip range and gets no gradient. ``clip_fraction_low`` and ``_high``
  show how many.
- A masked end token is anchored to the old policy alone, that is, treated as in GRPO. Where end tokens are
  one outcome, the old policy's part keeps the sampled token and the teacher's takes all of them.

Statistics beside the surrogate's: ``teacher_log_ratio``, the mean of log pi_theta - log pi_T as it enters
the ratio (clamped), and ``teacher_log_ratio_clamped_share``, both over the tokens on which the teacher
counts.
"""

from __future__ import annotations

from pydantic import Field, PositiveFloat

from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.surrogate import ClippedSurrogate
from rlad_core.objectives.teacher import MaskEndToken, teacher_term


class TRRD(ClippedSurrogate):
    """Trust-region ratio distillation (RLAD): the ratio's anchor mixes old policy and teacher."""

    kind: str = "trrd"
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Share of the old policy in the anchor; 1 is GRPO."
    )
    teacher_clamp: PositiveFloat | None = Field(
        default=1.0, description="Bound of |log pi_theta - log pi_T| before it is mixed; null for none."
    )
    mask_end_token: MaskEndToken = False

    @property
    def needs_teacher(self) -> bool:
        """Unless alpha is 1, where the teacher has no weight and isn't asked."""
        return self.alpha < 1

    @property
    def without_teacher(self) -> str:
        """See `Objective.without_teacher`."""
        return "or set alpha to 1, which is GRPO"

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch; ``step`` doesn't matter."""
        import torch

        log_ratio = batch.policy_logprobs - batch.old_logprobs
        if not self.needs_teacher:
            return self.surrogate(batch, log_ratio, batch.advantages)

        term = teacher_term(batch, mask_end_token=self.mask_end_token, method=f"trrd with alpha {self.alpha}")
        counts = term.counts
        unclamped = term.policy - term.teacher
        teacher_log_ratio = unclamped
        if self.teacher_clamp is not None:
            teacher_log_ratio = unclamped.clamp(-self.teacher_clamp, self.teacher_clamp)
        mixed = self.alpha * log_ratio + (1 - self.alpha) * teacher_log_ratio
        return self.surrogate(
            batch,
            torch.where(counts, mixed, log_ratio),
            batch.advantages,
            statistics={
                "teacher_log_ratio": Statistic.of(teacher_log_ratio, counts),
                "teacher_log_ratio_clamped_share": Statistic.of(teacher_log_ratio != unclamped, counts),
                "kl_to_teacher": Statistic.of(unclamped, counts),
            },
        )
