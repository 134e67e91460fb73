"""GSPO: the ratio of a response, not of its tokens.

``log s = mean over the response's tokens of (log pi_theta - log pi_old)``; each token has the ratio s and the
gradient of its own log-prob, so clipping keeps or drops a response as a whole. A = the response's
group-relative advantage, no additive term. Tokens that are too old to count are no part of the mean.

Source: "Group Sequence Policy Optimization", arXiv 2507.18071, in its token form (GSPO-token), which is the
same where all tokens of a response have one advantage. Its clip is far narrower than that of token ratios:
section 5.1 there uses 3e-4 and 4e-4, the defaults here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat

from rlad_core.objectives.interface import ObjectiveOutput, TokenBatch
from rlad_core.objectives.surrogate import ClippedSurrogate

if TYPE_CHECKING:
    from torch import Tensor


class GSPO(ClippedSurrogate):
    """Group sequence policy optimisation, no teacher."""

    kind: str = "gspo"
    eps_low: float = Field(default=3e-4, gt=0, lt=1, description="s is clipped below at 1 - eps_low.")
    eps_high: PositiveFloat = Field(default=4e-4, description="s is clipped above at 1 + eps_high.")

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch, which holds whole responses; ``step`` doesn't matter.

        Raises:
            ValueError: the batch doesn't say where its responses end.
        """
        if batch.is_last is None:
            raise ValueError("gspo needs the ends of the responses, but TokenBatch.is_last is None")
        log_ratio = (batch.policy_logprobs - batch.old_logprobs).detach()
        # The value of the sequence's ratio with the gradient of each token's own log-prob.
        own_gradient = batch.policy_logprobs - batch.policy_logprobs.detach()
        of_response = mean_of_response(log_ratio, batch.is_last, batch.trained)
        return self.surrogate(batch, of_response + own_gradient, batch.advantages)


def mean_of_response(values: Tensor, is_last: Tensor, counted: Tensor) -> Tensor:
    """The mean of a response's values that count, at each of its tokens; 0 where none does.

    Args:
        values: [T], the tokens of whole responses one after another.
        is_last: [T] bool, the last token of its response.
        counted: [T] bool.
    """
    response = is_last.cumsum(0) - is_last.to(is_last.cumsum(0).dtype)
    zeros = values.new_zeros(int(is_last.sum()))
    sums = zeros.index_add(0, response, values.masked_fill(~counted, 0.0))
    lengths = zeros.index_add(0, response, counted.to(values.dtype))
    return (sums / lengths.clamp(min=1))[response]
