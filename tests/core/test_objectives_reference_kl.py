"""The KL to a frozen reference, by hand: its three estimates, how each enters, and which way it pulls."""

import math
from typing import Any

import pytest
import torch
from example_recipe import read, the_problem
from torch import Tensor

from rlad_core.objectives import KINDS, TokenBatch
from rlad_core.objectives.grpo import GRPO

LN = math.log


def batch(**changes: Any) -> TokenBatch:
    """The policy and the old one say 1/2, the reference 1/4: d = log pi_ref - log pi_theta = -ln 2; A = 1."""

    def tokens(value: float) -> Tensor:
        return torch.tensor([value], dtype=torch.float64)

    given: dict[str, Any] = {
        "policy_logprobs": tokens(LN(0.5)).requires_grad_(),
        "old_logprobs": tokens(LN(0.5)),
        "rollout_logprobs": tokens(LN(0.5)),
        "reference_logprobs": tokens(LN(0.25)),
        "advantages": tokens(1.0),
        "weights": tokens(1.0),
    }
    return TokenBatch(**(given | changes))


@pytest.mark.parametrize(
    ("estimator", "estimate", "loss", "gradient"),
    [
        # 0.1 * ln 2 times a ratio of 1, with the gradient 0.1 ln 2.
        ("k1", LN(2), -(1 - 0.1 * LN(2)), -(1 - 0.1 * LN(2))),
        # 0.1 * d^2 / 2 with the gradient -0.1 d.
        ("k2", LN(2) ** 2 / 2, -1 + 0.1 * LN(2) ** 2 / 2, -1 + 0.1 * LN(2)),
        # 0.1 * (1/2 - 1 + ln 2) with the gradient 0.1 * (1 - 1/2).
        ("k3", LN(2) - 0.5, -1 + 0.1 * (LN(2) - 0.5), -1 + 0.1 * 0.5),
    ],
)
def test_each_estimate_and_how_it_enters(
    estimator: Any, estimate: float, loss: float, gradient: float
) -> None:
    given = batch()
    output = GRPO(reference_kl=0.1, reference_estimator=estimator)(given, 0)
    assert output.statistics["kl_to_reference"].mean == pytest.approx(estimate)
    assert output.loss.item() == pytest.approx(loss)
    (found,) = torch.autograd.grad(output.loss, given.policy_logprobs)
    # What the policy says more than the reference is pushed down: the gradient is above GRPO's own, -1.
    assert found.item() == pytest.approx(gradient)


@pytest.mark.parametrize("estimator", ["k1", "k2"])
@pytest.mark.parametrize("kind", ["grpo", "trrd", "kdrl", "opd"])
@pytest.mark.parametrize("seed", range(3))
def test_the_pull_is_the_gradient_of_the_kl_whatever_the_method(kind: str, estimator: str, seed: int) -> None:
    """Over all tokens of a place, each weighed by how likely it is to be sampled. The teacher is another one,
    so that TRRD's ratios at the first update lie on both sides of the clip.
    """
    generator = torch.Generator().manual_seed(seed)
    start, moved, taught = (torch.randn(30, generator=generator, dtype=torch.float64) for _ in range(3))
    logits = start.clone().requires_grad_()
    logprobs, reference = logits.log_softmax(0), (start + moved).log_softmax(0)
    kl = (logprobs.exp() * (logprobs - reference)).sum()
    [wanted] = torch.autograd.grad(kl, logits, retain_graph=True)
    old = logprobs.detach()
    given = batch(
        policy_logprobs=logprobs,
        old_logprobs=old,
        rollout_logprobs=old,
        reference_logprobs=reference,
        teacher_logprobs=(start + 3 * taught).log_softmax(0),
        advantages=torch.linspace(-1, 1, 30, dtype=torch.float64),
        weights=old.exp(),
    )
    pull = {"reference_kl": 1.0, "reference_estimator": estimator}
    pulled, plain = (KINDS[kind].model_validate({"kind": kind} | each) for each in (pull, {}))
    added = pulled(given, 0).loss - plain(given, 0).loss
    [found] = torch.autograd.grad(added, logits)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-9)


def test_k1_is_neither_clipped_nor_scaled_at_later_updates() -> None:
    # rho = 2 is beyond the clip and has no gradient; the pull has, 0.1 * 2 * (ln(1/4) - ln(1/8)).
    given = batch(
        old_logprobs=torch.tensor([LN(0.25)], dtype=torch.float64),
        rollout_logprobs=torch.tensor([LN(0.25)], dtype=torch.float64),
        reference_logprobs=torch.tensor([LN(0.125)], dtype=torch.float64),
    )
    output = GRPO(reference_kl=0.1, reference_estimator="k1")(given, 0)
    assert output.loss.item() == pytest.approx(-1.28 + 0.1 * 2 * LN(2))
    [found] = torch.autograd.grad(output.loss, given.policy_logprobs)
    assert found.item() == pytest.approx(0.1 * 2 * LN(2))


def test_without_a_weight_nothing_is_asked_and_nothing_changes() -> None:
    assert not GRPO().needs_reference
    assert GRPO(reference_kl=0.1).needs_reference
    plain = GRPO()(batch(reference_logprobs=None), 0)
    assert plain.loss.item() == GRPO()(batch(), 0).loss.item()
    assert "kl_to_reference" not in plain.statistics
    with pytest.raises(ValueError, match="reference_kl needs the reference's log-probs"):
        GRPO(reference_kl=0.1)(batch(reference_logprobs=None), 0)


def test_a_recipe_has_the_reference_that_its_objectives_hold_on_to() -> None:
    pulled = "stages.1.objective={kind: grpo, reference_kl: 1e-3}"
    assert the_problem(pulled).startswith("reference (null): an objective has a reference_kl")
    config = read(pulled, "reference={model: owner/start}")
    assert config.needs_reference
    assert list(config.scorers) == ["teacher", "reference"]
    assert list(config.served_teachers) == ["teacher", "reference"]
    assert "no objective has a reference_kl" in the_problem("reference={model: owner/start}")
    assert "asked of every task" in the_problem(pulled, "reference={model: a/b, tasks: [knights_knaves]}")
