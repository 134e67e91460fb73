"""Divergences over likely tokens: by hand, against whole distributions, and their gradients."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given as cases
from hypothesis import strategies as st
from token_batches import batch, tokens
from torch import Tensor

from rlad_core.objectives import TokenBatch
from rlad_core.objectives.gkd import GKD

LN = math.log
KINDS = ("reverse_kl", "forward_kl", "js")


def place(policy: Tensor, teacher: Tensor, ids: list[int], *, of: str = "teacher", **more: Any) -> TokenBatch:
    """Token 0 sampled at one place, with these tokens told apart; the batch's tensors have gradients."""
    told = {"top_logprobs": teacher[ids][None]} if of == "teacher" else {"named_logprobs": teacher[ids][None]}
    return batch(
        policy[[0]].detach().clone(),
        teacher_logprobs=teacher[[0]],
        policy_top_logprobs=policy[ids][None],
        **told,
        **more,
    )


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        # pi_theta = (1/2, 1/4, 1/4) and pi_T = (1/4, 1/4, 1/2); of token 0 told apart the outcomes are
        # (1/2, 1/2) and (1/4, 3/4).
        ("reverse_kl", 0.5 * LN(2) + 0.5 * LN(2 / 3)),
        ("forward_kl", 0.25 * LN(1 / 2) + 0.75 * LN(3 / 2)),
        # M = (3/8, 5/8).
        (
            "js",
            0.5 * (0.25 * LN(2 / 3) + 0.75 * LN(6 / 5)) + 0.5 * (0.5 * LN(4 / 3) + 0.5 * LN(4 / 5)),
        ),
    ],
)
@pytest.mark.parametrize("of", ["teacher", "policy"])
def test_by_hand(kind: Any, wanted: float, of: Any) -> None:
    given = place(tokens(0.5, 0.25, 0.25).log(), tokens(0.25, 0.25, 0.5).log(), [0], of=of, weights=tokens(3))
    output = GKD(divergence=kind, top_of=of, top_k=1)(given, 0)
    assert output.loss.item() == pytest.approx(3 * wanted)
    assert output.statistics["divergence"].mean == pytest.approx(wanted)
    assert output.statistics["told_share"].mean == pytest.approx(0.5)
    assert output.statistics["kl_to_teacher"].mean == pytest.approx(LN(2))


def plainly(kind: str, policy: Tensor, teacher: Tensor) -> Tensor:
    """The divergence of whole distributions."""
    q, p = policy.exp(), teacher.exp()
    if kind == "reverse_kl":
        return (q * (policy - teacher)).sum()
    if kind == "forward_kl":
        return (p * (teacher - policy)).sum()
    middle = (0.5 * (p + q)).log()
    return 0.5 * ((p * (teacher - middle)).sum() + (q * (policy - middle)).sum())


@pytest.mark.parametrize("kind", KINDS)
@cases(seed=st.integers(0, 10_000), vocabulary=st.integers(3, 30))
def test_at_most_the_whole_divergence_and_equal_where_one_token_is_left(
    kind: Any, seed: int, vocabulary: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = (
        2 * torch.randn(vocabulary, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    teacher, logits = teacher.log_softmax(0), logits.requires_grad_()
    policy = logits.log_softmax(0)
    whole = plainly(kind, policy, teacher)
    [wanted] = torch.autograd.grad(whole, logits, retain_graph=True)
    before = 0.0
    for k in (1, vocabulary // 2, vocabulary - 1):
        ids = teacher.topk(k).indices.tolist()
        found = GKD(divergence=kind)(place(policy, teacher, ids), 0).loss
        assert before - 1e-9 <= found.item() <= whole.item() + 1e-9
        before = found.item()
    assert found.item() == pytest.approx(whole.item(), rel=1e-6, abs=1e-9)
    [gradient] = torch.autograd.grad(found, logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_that_is_certain_has_finite_numbers(kind: Any) -> None:
    logits = torch.tensor([80.0, 0.0, -80.0], requires_grad=True)
    teacher = torch.tensor([-9.0, 0.5, 2.0]).log_softmax(0)
    given = place(logits.log_softmax(0), teacher, [0, 1], weights=torch.ones(1), advantages=torch.ones(1))
    loss = GKD(divergence=kind)(given, 0).loss
    [gradient] = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_end_tokens_that_are_one_outcome_do_not_differ() -> None:
    # The policy ends with token 1 and the teacher with token 2, as often.
    policy, teacher = tokens(0.2, 0.7, 0.1).log(), tokens(0.2, 0.1, 0.7).log()
    given = place(
        policy,
        teacher,
        [2, 0],
        is_end=torch.tensor([False]),
        policy_end_logprobs=tokens(LN(0.8)),
        old_end_logprobs=tokens(LN(0.8)),
        teacher_end_logprobs=tokens(LN(0.8)),
        top_is_end=torch.tensor([[True, False]]),
    )
    # What float64 leaves of the rest is taken for LEAST on both sides.
    assert GKD()(given, 0).loss.item() == pytest.approx(0, abs=1e-9)


def test_masked_end_tokens_and_who_is_asked() -> None:
    given = place(tokens(0.5, 0.5).log(), tokens(0.25, 0.75).log(), [0], is_end=torch.tensor([True]))
    assert GKD(mask_end_token=True)(given, 0).loss.item() == 0
    assert (GKD().teacher_top_k, GKD().policy_top_k) == (64, 0)
    policys = GKD(top_of="policy", top_k=8)
    assert (policys.teacher_top_k, policys.policy_top_k) == (0, 8)
    with pytest.raises(ValueError, match="gkd needs likely tokens of each place"):
        GKD()(batch(tokens(-1), teacher_logprobs=tokens(-1)), 0)
