"""TOP-D: the teacher's reward bounded below, by a teacher that has a share of the student in it.

With d = log pi_T - log pi_old, a token's reward is ``r_t = log(a * pi_T / pi_old + 1 - a) =
log(a * exp(d_t) + 1 - a)``, the log-ratio of the mixture a * pi_T + (1 - a) * pi_old to pi_old. It is at
least log(1 - a) however little the teacher thinks of a token; at a = 1 it is that of on-policy distillation.
A token's return is ``R_t = r_t + mean of the later tokens' rewards`` (the last one's its reward alone), and
``A_t = (R_t - mean) / standard deviation``, both over all tokens of the group. ``log rho = log pi_theta -
log pi_old``, the mean over groups of the means over their tokens.

Source: Trust Region Policy Distillation, arXiv 2607.04751: reward, return (Eq. 8) and Algorithm 1, whose runs
have a = 0.1 or 0.2, 16 updates a batch and a clip of 0.2 (prime-rl's port and a reader's notes tell it so).

The return counts tokens on which the teacher counts; mean and spread, those of them that are trained on. A
group whose returns do not differ teaches nothing.

Statistics beside the family's: ``token_reward``, the mean of r_t over the same tokens (that of A_t is 0).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from rlad_core.objectives.aggregation import Aggregation
from rlad_core.objectives.interface import Statistic, TokenBatch
from rlad_core.objectives.returns import TokenReturns, with_mean_of_later
from rlad_core.objectives.teacher_advantage import TeacherAdvantage

if TYPE_CHECKING:
    from torch import Tensor


class TopD(TeacherAdvantage):
    """On-policy distillation towards a mixture of teacher and student, token returns inside the group."""

    normalises_returns: ClassVar[bool] = True

    kind: str = "top_d"
    aggregation: Aggregation = Field(
        default="group_mean", description="TOP-D's own is group_mean: mean over groups of their token means."
    )
    share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="a: of the teacher in the mixture; at 1 the reward is that of on-policy distillation.",
    )

    def token_rewards(self, log_ratio: Tensor) -> Tensor:
        """r_t of d, [T]; without exp(d), which overflows."""
        import torch

        if self.share == 1:
            return log_ratio
        rest = torch.full_like(log_ratio, math.log1p(-self.share))
        return torch.logaddexp(log_ratio + math.log(self.share), rest)

    def token_returns(self, batch: TokenBatch, step: int) -> TokenReturns:
        """R_t, see the module.

        Raises:
            ValueError: the batch lacks the teacher's log-probs, or does not say where its responses end.
        """
        if batch.is_last is None:
            raise ValueError(f"{self.label} needs the ends of the responses, but TokenBatch.is_last is None")
        term = self.teacher_term(batch)
        rewards = self.token_rewards((term.teacher - term.old).masked_fill(~term.counts, 0.0))
        values = with_mean_of_later(rewards, batch.is_last, term.counts)
        return TokenReturns(values, term.counts & batch.trained)

    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """What the learner made of the returns.

        Raises:
            ValueError: the batch has none.
        """
        if batch.token_advantages is None:
            raise ValueError(
                f"{self.label} needs TokenBatch.token_advantages, which is None; the learner makes them of "
                "token_returns before the first update"
            )
        return batch.token_advantages

    def own_statistics(self, log_ratio: Tensor, advantages: Tensor, counts: Tensor) -> dict[str, Statistic]:
        """See the module."""
        return {"token_reward": Statistic.of(self.token_rewards(log_ratio), counts)}
