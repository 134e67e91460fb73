"""KL(pi_theta || pi_ref) to a frozen policy, estimated on the policy's own samples.

With d = log pi_ref - log pi_theta the estimators of a token (Schulman, "Approximating KL Divergence") are

======  ==================  ================================================================================
name    estimate            how it enters
======  ==================  ================================================================================
k1      -d                  as a penalty in the advantage, -(log pi_old - log pi_ref): differentiated as a
                            loss its gradient is grad log pi_theta, in which the reference drops out
k2      d^2 / 2             as a loss; its gradient is that of the KL
k3      exp(d) - 1 - d      as a loss, as in GRPO (arXiv 2402.03300, Eq. 4); never negative, its gradient is
                            that of KL(pi_ref || pi_theta)
======  ==================  ================================================================================
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
        advantage: what the advantage loses, constant.
        loss: what the token loss gains, with its gradient.
        estimate: of the KL, without gradient.
    """

    advantage: Tensor
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
    difference = batch.reference_logprobs - batch.policy_logprobs
    nothing = torch.zeros_like(batch.old_logprobs)
    if estimator == "k1":
        behind = batch.old_logprobs - batch.reference_logprobs
        return ReferenceTerm(behind, nothing, -difference.detach())
    loss = 0.5 * difference.square() if estimator == "k2" else difference.expm1() - difference
    return ReferenceTerm(nothing, loss, loss.detach())
