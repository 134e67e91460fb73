"""Batches of a few tokens for objectives, and what an objective makes of them."""

from typing import Any

import torch
from torch import Tensor

from rlad_core.objectives import Objective, TokenBatch


def tokens(*values: float) -> Tensor:
    """Values of tokens, in float64."""
    return torch.tensor(values, dtype=torch.float64)


def batch(policy: Tensor, **columns: Tensor | None) -> TokenBatch:
    """A batch on which everything not given is neutral: on-policy, no mismatch, weights and advantages 1."""
    old = columns.get("old_logprobs")
    neutral: dict[str, Any] = {
        "old_logprobs": policy.detach(),
        "rollout_logprobs": policy.detach() if old is None else old,
        "advantages": torch.ones_like(policy),
        "weights": torch.ones_like(policy),
    }
    return TokenBatch(policy_logprobs=policy.requires_grad_(), **(neutral | columns))


def gradient(objective: Objective, given: TokenBatch, step: int = 0) -> list[float]:
    """Of the loss, with respect to each token's log-prob."""
    (result,) = torch.autograd.grad(objective(given, step).loss, given.policy_logprobs)
    return result.tolist()
