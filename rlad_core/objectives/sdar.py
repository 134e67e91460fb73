"""SDAR: GRPO, and a pull towards the teacher that a gate lets through where the teacher says more.

``log rho = log pi_theta - log pi_old``, A = the response's group-relative advantage, and the additive term
``c * sigmoid(b * d) * d`` with d = log pi_T - log pi_theta and the gate held constant.

The gradient of the additive term is ``-c * sigmoid(b * d) * grad log pi_theta``: every token of the policy's
own samples is made likelier, hardly where the teacher thinks less of it (d < 0) and fully where it thinks
more. So the teacher enters through the gate alone; with b = 0 it would drop out.

Source: arXiv 2605.15155, where the teacher is the policy itself with a privileged prompt; here it is any
teacher. The defaults of c and b are those of the authors' launch script (ZJU-REAL/SDAR).

Statistics beside the surrogate's, over the trained tokens on which the teacher counts: ``distillation_gate``,
``distillation_loss``.
"""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat

from rlad_core.objectives.interface import ObjectiveOutput, TokenBatch
from rlad_core.objectives.surrogate import ClippedSurrogate
from rlad_core.objectives.teacher import ReadsTeacher


class SDAR(ReadsTeacher, ClippedSurrogate):
    """GRPO plus a gated distillation term."""

    kind: str = "sdar"
    coefficient: NonNegativeFloat = Field(default=0.01, description="c: weight of the distillation term.")
    sharpness: PositiveFloat = Field(default=5.0, description="b: how sharply the gate goes by d.")

    @property
    def needs_teacher(self) -> bool:
        """Always."""
        return True

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch; ``step`` doesn't matter."""
        import torch

        term = self.teacher_term(batch)
        # Masked before it is multiplied, so that whatever stands on a masked token can't reach the gradient.
        difference = torch.where(term.counts & batch.trained, term.teacher - term.policy, 0.0)
        gate = torch.sigmoid(self.sharpness * difference.detach())
        distillation = gate * difference
        return self.surrogate(
            batch,
            batch.policy_logprobs - batch.old_logprobs,
            batch.advantages,
            extra=self.coefficient * distillation,
            statistics={
                "distillation_gate": batch.statistic(gate, term.counts),
                "distillation_loss": batch.statistic(distillation, term.counts),
                "kl_to_teacher": batch.statistic(term.policy - term.teacher, term.counts),
            },
        )
