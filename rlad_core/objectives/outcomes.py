"""What may come at a place, in few outcomes: the tokens that are told apart, the end tokens, and the rest.

Teacher and policy are compared over the whole vocabulary by the log-probs of k tokens alone: all others are
one bucket, whose probability is what the k leave. Where end tokens are one outcome
(`rlad_core.objectives.teacher`) they are one bucket too, and no token of its own is among them. Each side is
then a distribution, and a divergence of the two is at most that of the distributions that they are made of,
equal where k is the whole vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rlad_core.objectives.interface import TokenBatch

if TYPE_CHECKING:
    from torch import Tensor

LEAST: Final = 1e-6
"""Of the rest's probability where it has a gradient: what float32 has no digits of."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Log-probs of the same n outcomes at each place, all but the rest, [T, n] each.

    Attributes:
        policy: log pi_theta, with its gradient; -inf for a token that is part of another outcome.
        teacher: log pi_T, likewise.
    """

    policy: Tensor
    teacher: Tensor


def outcomes_of_top(batch: TokenBatch, method: str) -> Outcomes:
    """Likely tokens, the teacher's or the policy's, and the end tokens where those are one outcome.

    Args:
        batch: the micro-batch.
        method: who asks, for the error.

    Raises:
        ValueError: the batch lacks likely tokens, or one side's log-probs of them.
    """
    import torch

    policy = batch.policy_top_logprobs
    teacher = batch.top_logprobs if batch.top_logprobs is not None else batch.named_logprobs
    if teacher is None or policy is None:
        raise ValueError(
            f"{method} needs likely tokens of each place, with the teacher's log-probs of them "
            "(TokenBatch.top_logprobs, or named_logprobs) and the policy's (policy_top_logprobs); have the "
            "rollouts scored by a teacher that tells them"
        )
    if (ends := batch.top_is_end) is not None:
        if batch.policy_end_logprobs is None or batch.teacher_end_logprobs is None:
            raise ValueError(f"{method} needs the log-probs of all end tokens together of both sides")
        sides = ((policy, batch.policy_end_logprobs), (teacher, batch.teacher_end_logprobs))
        policy, teacher = (
            torch.cat([each.masked_fill(ends, -torch.inf), together[:, None]], dim=1)
            for each, together in sides
        )
    return Outcomes(policy, teacher)


def whole(told: Tensor) -> Tensor:
    """A side with its rest, [T, n + 1], for what is differentiated: every number is finite.

    The rest is at least `LEAST`, and without a gradient where it would be less.
    """
    import torch

    together = told.logsumexp(dim=1).clamp(max=math.log1p(-LEAST))
    rest = torch.log(-torch.expm1(together))
    # Both sides lack the same tokens, of which exp(-100) times a difference of 0 is nothing.
    return torch.cat([told.masked_fill(told.isneginf(), -100.0), rest[:, None]], dim=1)
