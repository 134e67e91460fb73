"""KL(pi_theta || pi_ref) to a frozen policy, estimated on the policy's own samples.

With d = log pi_ref - log pi_theta the estimators of a token (Schulman, "Approximating KL Divergence") are

======  ==================  ================================================================================
name    estimate            how it enters
======  ==================  ================================================================================
k1      -d                  as the loss (pi_theta / pi_old) * (log pi_old - log pi_ref), a penalty that is
                            neither clipped nor weighed by a teacher: differentiated as it stands its
                            gradient is grad log pi_theta, in which the reference drops out
k2      d^2 / 2             as a loss; its gradient is that of the KL
k3      exp(d) - 1 - d      as a loss, as in GRPO (arXiv 2402.03300, Eq. 4); never negative, its gradient is
                            that of KL(pi_ref || pi_theta)
======  ==================  ================================================================================

On the policy's own samples the gradients of k1 and k2 are that of KL(pi_theta || pi_ref) at the first update.
A token without a weight has no term: d may be anything there, and exp(d) beyond a float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rlad_core.objectives.interface import TokenBatch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ReferenceTerm:
    """The term for a weight of 1, [T] each.

    Attributes:
        loss: what the token loss gains, with its gradient.
        estimate: of the KL, without gradient.
    """

    loss: Tensor
    estimate: Tensor


def reference_term(batch: TokenBatch, estimator: Literal["k1", "k2", "k3"]) -> ReferenceTerm:
    """What a KL to the reference adds.

    Raises:
        ValueError: the batch has no log-probs of the reference.
    """
    import torch

    if batch.reference_logprobs is None:
        raise ValueError(
            "reference_kl needs the reference's log-probs, but TokenBatch.reference_logprobs is None; have "
            "the rollouts scored by a reference, or write reference_kl: 0"
        )
    difference = torch.where(batch.trained, batch.reference_logprobs - batch.policy_logprobs, 0.0)
    if estimator == "k1":
        behind = batch.old_logprobs - batch.reference_logprobs
        log_ratio = torch.where(batch.trained, batch.policy_logprobs - batch.old_logprobs, 0.0)
        return ReferenceTerm(log_ratio.exp() * behind, -difference.detach())
    loss = 0.5 * difference.square() if estimator == "k2" else difference.expm1() - difference
    return ReferenceTerm(loss, loss.detach())
