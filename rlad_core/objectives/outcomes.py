"""What may come at a place, in few outcomes: the tokens that are told apart, the end tokens, and the rest.

Teacher and policy are compared over the whole vocabulary by k tokens: all others are one bucket. Where end
tokens are one outcome (`rlad_core.objectives.teacher`) they are one bucket too, and no token of its own is
among them. Each side is then a distribution, and a divergence of the two is at most that of the distributions
that they are made of, equal where k is the whole vocabulary.

How likely the rest is to the policy is summed by the learner, with its gradient. Where a policy is sure of
the wrong token nearly all of KL(teacher, policy)'s gradient comes through it, however small it is. How likely
it is to the teacher is taken from above (`rlad_core.objectives.rest`). Where a teacher is sure KL(policy,
teacher) is for that too small, by the policy's rest times what the logarithm of the teacher's is too large,
and KL(teacher, policy) and Jensen-Shannon's are off by less than 4e-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlad_core.objectives.interface import TokenBatch
from rlad_core.objectives.rest import with_rest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Log-probs of the same n outcomes at each place, the last of them the rest, [T, n] each.

    Attributes:
        policy: log pi_theta, with its gradient; -inf for a token that is part of another outcome, and for a
            rest that is none.
        teacher: log pi_T, -inf likewise for such tokens; its rest is an upper bound.
    """

    policy: Tensor
    teacher: Tensor


def outcomes_of_top(batch: TokenBatch, method: str) -> Outcomes:
    """Likely tokens, the teacher's or the policy's, and the end tokens where those are one outcome.

    Args:
        batch: the micro-batch.
        method: who asks, for the error.

    Raises:
        ValueError: the batch lacks likely tokens, or one side's log-probs of them or of the others.
    """
    import torch

    policy, rest = batch.policy_top_logprobs, batch.policy_rest_logprobs
    teacher = batch.top_logprobs if batch.top_logprobs is not None else batch.named_logprobs
    if teacher is None or policy is None:
        raise ValueError(
            f"{method} needs likely tokens of each place, with the teacher's log-probs of them "
            "(TokenBatch.top_logprobs, or named_logprobs) and the policy's (policy_top_logprobs); have the "
            "rollouts scored by a teacher that tells them"
        )
    if rest is None:
        raise ValueError(
            f"{method} needs what the policy gives to all tokens but the likely ones "
            "(TokenBatch.policy_rest_logprobs), which the learner sums"
        )
    least_likely = None if batch.top_logprobs is None else batch.top_logprobs.amin(dim=1)
    if (ends := batch.top_is_end) is not None:
        if batch.policy_end_logprobs is None or batch.teacher_end_logprobs is None:
            raise ValueError(f"{method} needs the log-probs of all end tokens together of both sides")
        sides = ((policy, batch.policy_end_logprobs), (teacher, batch.teacher_end_logprobs))
        policy, teacher = (
            torch.cat([each.masked_fill(ends, -torch.inf), together[:, None]], dim=1)
            for each, together in sides
        )
    return Outcomes(torch.cat([policy, rest[:, None]], dim=1), with_rest(teacher, least_likely))


def finite(side: Tensor) -> Tensor:
    """A side of `Outcomes` [T, n] for what is differentiated: what is -inf is -100, without a gradient.

    Both sides lack the same tokens, of which exp(-100) times a difference of 0 is nothing.
    """
    return side.masked_fill(side.isneginf(), -100.0)
