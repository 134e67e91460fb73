"""OPDVR and GRPD: on-policy distillation in the direction that the verifier confirms.

With d = log pi_T - log pi_old:

- ``opdvr``: A_t = max(0, d) on right responses and -max(0, -d) on wrong ones. So the teacher may raise tokens
  of right responses and lower those of wrong ones; where it says the opposite of the verdict, a token teaches
  nothing.
- ``grpd``: the same, weighed by the group: A_t = A * max(0, sign(A) * d), A the response's group-relative
  advantage. With rewards of two values the sign of A is the verdict.

Source: arXiv 2608.24696. Of GRPD there are three versions. The paper's equation, as others note it, has the
sign of A alone: ``opdvr`` on groups whose rewards differ. The authors' README (LeapLabTHU/OPDVR) multiplies
by A and says that it isn't divided by the group's spread in the paper. Their grpd.sh divides by it, as is
done here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rlad_core.objectives.teacher_advantage import TeacherAdvantage, verdict_signs

if TYPE_CHECKING:
    from torch import Tensor

    from rlad_core.objectives.interface import TokenBatch


class OPDVR(TeacherAdvantage):
    """On-policy distillation with verifiable reward; ``TokenBatch.advantages`` isn't read."""

    kind: str = "opdvr"

    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """See the module."""
        signs = verdict_signs(batch, self.label)
        return signs * (signs * log_ratio).clamp(min=0)


class GRPD(TeacherAdvantage):
    """OPDVR weighed by the response's group-relative advantage."""

    uses_group_advantage: ClassVar[bool] = True

    kind: str = "grpd"

    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """See the module; a group of one reward teaches nothing."""
        return batch.advantages * (batch.advantages.sign() * log_ratio).clamp(min=0)
