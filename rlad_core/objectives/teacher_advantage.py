"""What the on-policy distillation family shares: GRPO's ratio, and an advantage per token that the teacher
gives.

With d = log pi_T - log pi_old, ``log rho = log pi_theta - log pi_old`` and ``A_t = f(d_t, ...)``; the methods
are the files that say what f is. d is taken at pi_old, where it is a constant, as an advantage must be; at
the first update pi_old = pi_theta.

Statistics beside the surrogate's, over the trained tokens on which the teacher counts:
``teacher_log_ratio``, the mean of -d, and ``token_advantage``, the mean of A_t.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.surrogate import ClippedSurrogate
from rlad_core.objectives.teacher import ReadsTeacher

if TYPE_CHECKING:
    from torch import Tensor


class TeacherAdvantage(ReadsTeacher, ClippedSurrogate):
    """Base of the methods whose advantage is made of the teacher's log-ratio, token by token."""

    uses_group_advantage: ClassVar[bool] = False

    @property
    def needs_teacher(self) -> bool:
        """Without the teacher there is no advantage."""
        return True

    @abstractmethod
    def token_advantages(self, log_ratio: Tensor, old: Tensor, batch: TokenBatch, step: int) -> Tensor:
        """A_t of each token.

        Args:
            log_ratio: d = log pi_T - log pi_old, [T]; 0 where the teacher doesn't count.
            old: log pi_old of the same outcomes, [T].
            batch: for the verdicts and the responses' own advantages.
            step: steps of the stage before this one.

        Returns:
            [T], constant.
        """

    def on_other_tokens(self, batch: TokenBatch) -> Tensor:
        """A_t where the teacher doesn't count, [T]: 0, since the teacher is all there is."""
        import torch

        return torch.zeros_like(batch.advantages)

    def own_statistics(self, log_ratio: Tensor, advantages: Tensor, counts: Tensor) -> dict[str, Statistic]:
        """What a method tells besides, or otherwise; all arguments [T].

        Args:
            counts: which tokens are trained on and have a teacher that counts.
        """
        return {}

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch."""
        import torch

        term = self.teacher_term(batch)
        counts = term.counts
        # Masked before anything is made of it, so that whatever stands on a masked token reaches nothing.
        log_ratio = (term.teacher - term.old).masked_fill(~counts, 0.0)
        taught = self.token_advantages(log_ratio, term.old, batch, step)
        advantages = torch.where(counts, taught, self.on_other_tokens(batch))
        told = counts & batch.trained
        return self.surrogate(
            batch,
            batch.policy_logprobs - batch.old_logprobs,
            advantages,
            statistics={
                "teacher_log_ratio": Statistic.of(-log_ratio, told),
                "token_advantage": Statistic.of(advantages, told),
                "kl_to_teacher": Statistic.of(term.policy - term.teacher, told),
                **self.own_statistics(log_ratio, advantages, told),
            },
        )


def verdict_signs(batch: TokenBatch, method: str) -> Tensor:
    """+1 on tokens of right responses and -1 on those of wrong ones, [T].

    Raises:
        ValueError: the batch has no verdicts.
    """
    if batch.is_correct is None:
        raise ValueError(f"{method} needs the verdicts, but TokenBatch.is_correct is None")
    return batch.is_correct.to(batch.old_logprobs.dtype) * 2 - 1
