"""TOP-D: the teacher's reward bounded below, by a teacher that has a share of the student in it.

With d = log pi_T - log pi_old: ``A_t = log(a * pi_T / pi_old + 1 - a) = log(a * exp(d) + 1 - a)``, the
log-ratio of the mixture a * pi_T + (1 - a) * pi_old to pi_old. It is at least log(1 - a) however little the
teacher thinks of a token; at a = 1 it is plain on-policy distillation.

Source: the reward of arXiv 2607.04751, whose runs have a = 0.1 or 0.2. What is made of it there isn't here:
by prime-rl's port and others' notes the advantage is a token's reward plus the mean of the later tokens'
(Eq. 8), less its mean over all tokens of the group and divided by its spread over them. Here it is the reward
itself, as in `opd`: a learner's micro-batch has no whole groups.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from rlad_core.objectives.teacher_advantage import TeacherAdvantage

if TYPE_CHECKING:
    from torch import Tensor

    from rlad_core.objectives.interface import TokenBatch


class TopD(TeacherAdvantage):
    """On-policy distillation towards a mixture of teacher and student."""

    kind: str = "top_d"
    share: float = Field(
        default=0.2, gt=0, le=1, description="a: of the teacher in the mixture; 1 is on-policy distillation."
    )

    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """See the module; without exp(d), which overflows."""
        import torch

        if self.share == 1:
            return log_ratio
        rest = torch.full_like(log_ratio, math.log1p(-self.share))
        return torch.logaddexp(log_ratio + math.log(self.share), rest)
