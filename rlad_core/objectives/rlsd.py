"""RLSD: the verifier says in which direction, the teacher how far, token by token.

With d = log pi_T - log pi_old and A the response's group-relative advantage: ``A_t = A * ((1 - l) + l *
clip(exp(sign(A) * d), 1 - eps, 1 + eps))``. The factor is positive, so a token's direction is always that of
the verdict; a token that the teacher holds more likely than the student takes more of the credit of a right
response and less of the blame of a wrong one.

A token on which the teacher doesn't count has the advantage A, as in GRPO.

Source: arXiv 2604.03128, where the teacher is the policy itself with the solution before its eyes; here it is
any teacher. There l goes to 0, which is GRPO, over the training: ``share_end: 0`` with ``share_steps``; where
neither is written it stays. l = 0.5 and eps = 0.2 are the defaults of a port by others (ZJU-REAL/SDAR,
RLSDRayTrainer), where l is 0 after 50 steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveInt

from rlad_core.objectives.ramp import ramp, ramp_problems
from rlad_core.objectives.teacher_advantage import TeacherAdvantage
from rlad_core.sections.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from rlad_core.objectives.interface import ObjectiveOutput, TokenBatch


class RLSD(TeacherAdvantage):
    """GRPO whose credit is shared out among a response's tokens by the teacher."""

    uses_group_advantage: ClassVar[bool] = True

    kind: str = "rlsd"
    share: float = Field(
        default=0.5, ge=0, le=1, description="l: of the teacher in a token's credit; 0 is GRPO."
    )
    share_end: float | None = Field(
        default=None, ge=0, le=1, description="What share becomes over share_steps; null: it stays."
    )
    share_steps: PositiveInt | None = Field(
        default=None, description="Steps of the stage over which it does, in a straight line."
    )
    eps_credit: float = Field(
        default=0.2, gt=0, lt=1, description="The teacher's factor lies in 1 +- eps_credit."
    )

    @property
    def needs_teacher(self) -> bool:
        """Unless its share is 0, which is GRPO."""
        return max(self.share, self.share_end or 0) > 0

    @property
    def without_teacher(self) -> str:
        """See `Objective.without_teacher`."""
        return "or set share to 0, which is GRPO"

    def problems(self) -> Iterator[Problem]:
        """See `Objective.problems`."""
        yield from super().problems()
        yield from ramp_problems("share", self.share_end, self.share_steps)

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch; GRPO's where no teacher is asked."""
        if not self.needs_teacher:
            return self.surrogate(batch, batch.policy_logprobs - batch.old_logprobs, batch.advantages)
        return super().__call__(batch, step)

    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """See the module; the exponent is clipped before the exponential, which overflows."""
        low, high = math.log1p(-self.eps_credit), math.log1p(self.eps_credit)
        factor = (batch.advantages.sign() * log_ratio).clamp(low, high).exp()
        share = ramp(self.share, self.share_end, self.share_steps, step)
        return batch.advantages * (1 - share + share * factor)

    def on_other_tokens(self, batch: TokenBatch) -> Tensor:
        """The response's advantage, as in GRPO."""
        return batch.advantages
