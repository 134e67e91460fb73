"""PowerOPD: the teacher and the student compared by a power of their probabilities, which is bounded.

``A_t = pi_T^a - pi_old^a``: in [-1, 1], with the sign of d = log pi_T - log pi_old. A large a leaves the
tokens of which one of the two is nearly sure; near a = 0 it is a * d, on-policy distillation with a-fold
rewards.

Source: arXiv 2606.17199, as its authors' code has it (EIT-NLP/PowerOPD: README, opd_dynamics/trainer.py),
without the 1/a of a Box-Cox transform, whose limit at a = 0 would be d itself: with it the bound would be
1/a. a = 5 is that of their launch script, which also leaves end tokens out (here ``mask_end_token``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat

from rlad_core.objectives.teacher_advantage import TeacherAdvantage

if TYPE_CHECKING:
    from torch import Tensor

    from rlad_core.objectives.interface import TokenBatch


class PowerOPD(TeacherAdvantage):
    """On-policy distillation with a difference of powers as reward; ``TokenBatch.advantages`` isn't read."""

    kind: str = "power_opd"
    power: PositiveFloat = Field(
        default=5.0, description="a: what both probabilities are raised to; near 0 it is a * OPD's advantage."
    )

    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """See the module; from the larger of the two: exp(a * d) overflows, and near a = 0 both are 1."""
        larger = (self.power * (old + log_ratio.clamp(min=0))).exp()
        return -log_ratio.sign() * larger * (-self.power * log_ratio.abs()).expm1()
