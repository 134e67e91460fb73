"""The teacher term: what teacher and policy say of the same outcome, and on which tokens it means something.

Student and teacher may end a response with different tokens (<|endoftext|> and <|im_end|>, say); what the
teacher says of the student's own end token is then meaningless. By default all end tokens are one outcome:
with E the union of both models' end tokens, on a token that ended its response the term compares
log sum_E pi_T with log sum_E pi_theta, with the gradient through the sum. What has no teacher in it, such as
GRPO's ratio, keeps the sampled token. With ``mask_end_token`` the token is left out of the term instead.

The last token of a response that was cut off is no end token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from rlad_core.objectives.interface import TokenBatch
from rlad_core.objectives.objective import Objective

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class TeacherTerm:
    """Log-probs of the same outcomes, [T] each.

    Attributes:
        teacher: log pi_T.
        policy: log pi_theta, with its gradient.
        old: log pi_old.
        counts: bool, where they mean something.
    """

    teacher: Tensor
    policy: Tensor
    old: Tensor
    counts: Tensor


class ReadsTeacher(Objective):
    """Base of the objectives with a teacher term, before that of their loss."""

    mask_end_token: bool = Field(
        default=False,
        description="Leave the end token of a response out of the teacher term; false: all end tokens of "
        "policy and teacher are one outcome.",
    )

    @property
    def compares_end_tokens(self) -> bool:
        """See `Objective.compares_end_tokens`; not where they are left out."""
        return super().compares_end_tokens and not self.mask_end_token

    def teacher_term(self, batch: TokenBatch) -> TeacherTerm:
        """What the teacher term is computed from.

        Raises:
            ValueError: the batch has no teacher log-probs; or no ``is_end``, or no end tokens of the policy,
                though they are needed.
        """
        import torch

        if batch.teacher_logprobs is None:
            raise ValueError(
                f"{self.label} needs the teacher's log-probs, but TokenBatch.teacher_logprobs is None; "
                "have the rollouts scored by a teacher, or choose an objective without one (grpo)"
            )
        teacher, policy, old = batch.teacher_logprobs, batch.policy_logprobs, batch.old_logprobs
        counts = torch.ones_like(teacher, dtype=torch.bool)
        outcome = batch.teacher_end_logprobs
        if not self.mask_end_token and outcome is None:
            return TeacherTerm(teacher, policy, old, counts)
        if (ends := batch.is_end) is None:
            raise ValueError(f"{self.label} needs TokenBatch.is_end, which is None")
        if self.mask_end_token or outcome is None:
            return TeacherTerm(teacher, policy, old, ~ends)
        if batch.policy_end_logprobs is None or batch.old_end_logprobs is None:
            raise ValueError(
                f"{self.label} has the teacher's log-probs of all end tokens together, and needs the "
                "policy's: TokenBatch.policy_end_logprobs and old_end_logprobs"
            )
        return TeacherTerm(
            torch.where(ends, outcome, teacher),
            torch.where(ends, batch.policy_end_logprobs, policy),
            torch.where(ends, batch.old_end_logprobs, old),
            counts,
        )
