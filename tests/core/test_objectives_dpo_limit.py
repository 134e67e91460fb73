"""TRRD without its old policy against DPO with the teacher as reference: RLAD's appendix C in numbers.

At alpha = 0, unclipped and unclamped, with A = +1 for the better and -1 for the worse response and sums over
tokens, TRRD's loss is -sum A * exp(log pi_theta - log pi_T). DPO's (arXiv 2305.18290) is -log sigmoid(beta *
difference of the responses' log-ratios). Where pi_theta = pi_T the two gradients are parallel and DPO's is
beta / 2 of TRRD's; elsewhere TRRD weighs each token by its own ratio, DPO the whole pair by one sigmoid.
"""

import pytest
import torch
from torch import Tensor

from rlad_core.objectives import TokenBatch
from rlad_core.objectives.trrd import TRRD

BETA = 0.3
VOCABULARY, LENGTH = 7, 5
UNBOUNDED = TRRD(alpha=0.0, teacher_clamp=None, eps_low=1 - 1e-12, eps_high=1e12, mismatch_cap=None)


def logits(seed: int) -> Tensor:
    """Of both responses, position by position: [2, LENGTH, VOCABULARY]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, LENGTH, VOCABULARY, generator=generator, dtype=torch.float64)


TARGETS = torch.randint(VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(9))


def logprobs(of: Tensor) -> Tensor:
    """Of the two responses' tokens, the better one first: [2, LENGTH]."""
    return of.log_softmax(-1).gather(2, TARGETS[:, :, None]).squeeze(2)


def trrd_gradient(policy: Tensor, teacher: Tensor) -> Tensor:
    policy = policy.clone().requires_grad_()
    values = logprobs(policy).flatten()
    batch = TokenBatch(
        policy_logprobs=values,
        old_logprobs=values.detach(),
        rollout_logprobs=values.detach(),
        advantages=torch.tensor([1.0, -1.0], dtype=torch.float64).repeat_interleave(LENGTH),
        weights=torch.ones_like(values),
        teacher_logprobs=logprobs(teacher).flatten(),
    )
    (gradient,) = torch.autograd.grad(UNBOUNDED(batch, 0).loss, policy)
    return gradient


def dpo_gradient(policy: Tensor, teacher: Tensor) -> Tensor:
    policy = policy.clone().requires_grad_()
    better, worse = (logprobs(policy) - logprobs(teacher)).sum(dim=1)
    loss = -torch.nn.functional.logsigmoid(BETA * (better - worse))
    (gradient,) = torch.autograd.grad(loss, policy)
    return gradient


def cosine(first: Tensor, second: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0))


def test_at_the_teacher_the_gradients_are_parallel() -> None:
    teacher = logits(0)
    torch.testing.assert_close(dpo_gradient(teacher, teacher), BETA / 2 * trrd_gradient(teacher, teacher))


def test_away_from_it_trrd_weighs_tokens_and_dpo_pairs() -> None:
    teacher, policy = logits(0), logits(0) + 0.5 * logits(1)
    policy = policy.clone().requires_grad_()
    ratios = (logprobs(policy) - logprobs(teacher)).exp().detach()
    signs = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    # By token: minus sign times ratio times the score; by pair: minus sign times one factor times the score.
    (by_token,) = torch.autograd.grad(-(signs * ratios * logprobs(policy)).sum(), policy, retain_graph=True)
    torch.testing.assert_close(trrd_gradient(policy.detach(), teacher), by_token)
    logit = BETA * (signs * ratios.log()).sum()
    factor = BETA * torch.sigmoid(-logit)
    (by_pair,) = torch.autograd.grad(-(signs * factor * logprobs(policy)).sum(), policy)
    torch.testing.assert_close(dpo_gradient(policy.detach(), teacher), by_pair)
    assert cosine(by_token, by_pair) < 0.999


@pytest.mark.parametrize(("distance", "least"), [(0.5, 0.8), (0.05, 0.995), (0.005, 0.99995)])
def test_the_nearer_the_teacher_the_more_they_agree(distance: float, least: float) -> None:
    teacher, policy = logits(0), logits(0) + distance * logits(1)
    assert cosine(trrd_gradient(policy, teacher), dpo_gradient(policy, teacher)) > least
    farther = logits(0) + 2 * distance * logits(1)
    assert cosine(trrd_gradient(farther, teacher), dpo_gradient(farther, teacher)) < cosine(
        trrd_gradient(policy, teacher), dpo_gradient(policy, teacher)
    )


def test_the_clip_bounds_the_step() -> None:
    # pi_theta is moved up to a ratio of 1.28 and no further, whatever DPO would go on to do.
    teacher, policy = logits(0), logits(0) + 0.5 * logits(1)
    values = logprobs(policy).flatten().requires_grad_()
    batch = TokenBatch(
        policy_logprobs=values,
        old_logprobs=values.detach(),
        rollout_logprobs=values.detach(),
        advantages=torch.ones_like(values),
        weights=torch.ones_like(values),
        teacher_logprobs=logprobs(teacher).flatten(),
    )
    (gradient,) = torch.autograd.grad(TRRD(alpha=0.0, teacher_clamp=None)(batch, 0).loss, values)
    ratios = (values.detach() - batch.teacher_logprobs).exp()  # type: ignore[operator]
    assert ((gradient == 0) == (ratios > 1.28)).all()
    assert (ratios > 1.28).any()
    assert float(gradient.abs().max()) <= 1.28
