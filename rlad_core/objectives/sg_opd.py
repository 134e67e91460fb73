"""SG-OPD: on-policy distillation, more of it where the teacher agrees with the verifier and less where not.

With d = log pi_T - log pi_old and v = +1 on right and -1 on wrong responses:
``A_t = (1 + agree) * d`` where sign(d) = v, ``A_t = (1 - disagree) * d`` elsewhere.

Source: the sign-consistency gate of arXiv 2606.09304, which extrapolates on the one side and interpolates on
the other. Its other half, responses that the teacher samples in the first phase, is a stage of `sft` here.
The paper's equation was not to be had, only what others note of it: a factor of 1.8 where the two agree and
of 1 where they don't. If it multiplies d that is ``agree: 0.8`` and ``disagree: 0``; it may multiply the
teacher's gain over a reference instead, as in `exopd`. The defaults of the two strengths are ours.

On how many tokens the two disagree the learner tells of every objective with a teacher, as
``teacher_disagreement``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeFloat

from rlad_core.objectives.teacher_advantage import TeacherAdvantage, verdict_signs

if TYPE_CHECKING:
    from torch import Tensor

    from rlad_core.objectives.interface import TokenBatch


class SGOPD(TeacherAdvantage):
    """Sign-gated on-policy distillation; ``TokenBatch.advantages`` isn't read."""

    kind: str = "sg_opd"
    agree: NonNegativeFloat = Field(
        default=0.5, description="How much more a token counts where teacher and verdict agree; 0 is OPD."
    )
    disagree: float = Field(
        default=0.5, ge=0, le=1, description="How much less where they don't; 1 leaves such tokens out."
    )

    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """See the module."""
        agrees = log_ratio * verdict_signs(batch, self.label) > 0
        return log_ratio * agrees.to(log_ratio.dtype).mul(self.agree + self.disagree).add(1 - self.disagree)
