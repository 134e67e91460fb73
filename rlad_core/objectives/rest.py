"""How much a teacher can hold of all tokens that it does not tell, where float32 has no digits of it.

What the told tokens leave of 1 is known to the rounding of their log-probs, which all have the same error.
A sure teacher leaves less, and how much less matters: the rest enters TRRD's normaliser as its (1 - alpha)th
power, and a divergence by its logarithm. So it is taken from above, where the normaliser stays an upper bound
(`rlad_core.objectives.anchor`) and KL(policy, teacher) a lower one. The policy's own rest needs none of this:
the learner has its logits, and sums it (`rlad_core.logprobs`).

How large the error is depends on who tells them. An engine that takes the logits' maximum off first, as ours
does (`rlad_core.token_details`), has that of its float32 sum whatever the logits are: up to 15 epsilons were
found. One that takes off their logsumexp at once adds half a step of that: with it the bound is sure where
the logsumexp is below 16 nats in absolute value, and may be 0.9 of the true rest up to 32, 0.5 up to 64 and
0.2 up to 128.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING: Final = 16
"""Of a sum of told probabilities, in the precision's epsilons: 1.9e-6 in float32."""

MOST_TOKENS: Final = 2**20
"""No vocabulary has more."""


def log_rest(told: Tensor, least_likely: Tensor | None = None) -> Tensor:
    """Log of an upper bound of the probability that all other tokens have together.

    It is what the told leave of 1 and their rounding, at most `ROUNDING` epsilons too much twice over; or, if
    that is less, as if `MOST_TOKENS` others were as likely as the least likely told.

    Args:
        told: log-probs of what is told apart, [T, n]; -inf for what is no outcome of its own.
        least_likely: a log-prob that no other token exceeds, [T], where the told are the likeliest.

    Returns:
        [T], finite and at most 0.
    """
    import torch

    left = (1 - told.exp().sum(dim=1)).clamp(min=0) + ROUNDING * torch.finfo(told.dtype).eps
    bound = left.clamp(max=1).log()
    return bound if least_likely is None else torch.minimum(bound, least_likely + math.log(MOST_TOKENS))


def with_rest(told: Tensor, least_likely: Tensor | None = None) -> Tensor:
    """The log-probs `told` [T, n] and `log_rest` behind them, [T, n + 1]."""
    import torch

    return torch.cat([told, log_rest(told, least_likely)[:, None]], dim=1)
