"""PowerOPD: the teacher's log-ratio by way of a power, which is bounded below.

With d = log pi_T - log pi_old: ``A_t = ((pi_T / pi_old)^a - 1) / a = (exp(a * d) - 1) / a``, the Box-Cox
transform of the ratio. It has the sign of d, is at least -1/a, and tends to d for a -> 0. Above it is at most
(pi_old^-a - 1) / a, which is large for a token that the student hardly ever says; ``bound`` cuts it off.

Source: arXiv 2606.17199. The default of ``bound`` is none, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat

from rlad_core.objectives.teacher_advantage import TeacherAdvantage

if TYPE_CHECKING:
    from torch import Tensor

    from rlad_core.objectives.interface import TokenBatch


class PowerOPD(TeacherAdvantage):
    """On-policy distillation with a power of the ratio as reward; ``TokenBatch.advantages`` isn't read."""

    kind: str = "power_opd"
    power: float = Field(default=0.5, gt=0, le=1, description="a; near 0 it is on-policy distillation.")
    bound: PositiveFloat | None = Field(default=None, description="Most that A_t may be; null for no bound.")

    def token_advantages(self, log_ratio: Tensor, batch: TokenBatch) -> Tensor:
        """See the module."""
        reward = (self.power * log_ratio).expm1() / self.power
        return reward if self.bound is None else reward.clamp(max=self.bound)
