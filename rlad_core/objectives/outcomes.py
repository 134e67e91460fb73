"""What may come at a place, in few outcomes: the tokens that were told apart, the end tokens, and the rest.

Teacher and policy are compared over the whole vocabulary by the log-probs of k tokens alone: all others are
one bucket, whose probability is what the k leave. Where end tokens are one outcome
(`rlad_core.objectives.teacher`) they are one bucket too, and no token of its own is among them. Each side is
then a distribution, and a divergence of the two is at most that of the distributions that they are made of,
equal where k is the whole vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlad_core.objectives.anchor import with_rest
from rlad_core.objectives.interface import TokenBatch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Log-probs of the same n outcomes at each place, [T, n] each; of one place they sum to 1.

    Attributes:
        policy: log pi_theta, with its gradient.
        teacher: log pi_T.
    """

    policy: Tensor
    teacher: Tensor


def outcomes_of_top(batch: TokenBatch, method: str) -> Outcomes:
    """The teacher's k likeliest tokens, the end tokens where those are one outcome, and the rest.

    Args:
        batch: the micro-batch.
        method: who asks, for the error.

    Raises:
        ValueError: the batch lacks the teacher's likeliest tokens, or the policy's log-probs of them.
    """
    import torch

    if batch.top_logprobs is None or batch.policy_top_logprobs is None:
        raise ValueError(
            f"{method} needs the teacher's likeliest tokens, TokenBatch.top_logprobs, and the policy's "
            "log-probs of them, policy_top_logprobs; have the rollouts scored by a teacher that tells them"
        )
    policy, teacher = batch.policy_top_logprobs, batch.top_logprobs
    if (ends := batch.top_is_end) is not None:
        if batch.policy_end_logprobs is None or batch.teacher_end_logprobs is None:
            raise ValueError(f"{method} needs the log-probs of all end tokens together of both sides")
        sides = ((policy, batch.policy_end_logprobs), (teacher, batch.teacher_end_logprobs))
        policy, teacher = (
            torch.cat([each.masked_fill(ends, -torch.inf), together[:, None]], dim=1)
            for each, together in sides
        )
    return Outcomes(with_rest(policy), with_rest(teacher))
