"""Divergences over likely tokens: by hand, against whole distributions, and their gradients."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given as cases
from hypothesis import strategies as st
from token_batches import batch, tokens
from torch import Tensor

from rlad_core.logprobs import token_logprobs
from rlad_core.objectives import TokenBatch
from rlad_core.objectives.gkd import GKD

LN = math.log
KINDS = ("reverse_kl", "forward_kl", "js")


def place(policy: Tensor, teacher: Tensor, ids: list[int], *, of: str = "teacher", **more: Any) -> TokenBatch:
    """Token 0 sampled at one place, with these tokens told apart; the batch's tensors have gradients."""
    others = policy[[token for token in range(len(policy)) if token not in ids]]
    told = {"top_logprobs": teacher[ids][None]} if of == "teacher" else {"named_logprobs": teacher[ids][None]}
    columns = {
        "teacher_logprobs": teacher[[0]],
        "policy_top_logprobs": policy[ids][None],
        "policy_rest_logprobs": others.logsumexp(0)[None],
        "weights": torch.ones_like(teacher[[0]]),
        "advantages": torch.ones_like(teacher[[0]]),
    }
    return batch(policy[[0]].detach().clone(), **(columns | told | more))


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
    given = place(logits.log_softmax(0), teacher, [0, 1])
    loss = GKD(divergence=kind)(given, 0).loss
    [gradient] = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def wrong(lead: float, *, teachers: float = 5.0) -> tuple[Tensor, Tensor]:
    """Logits of a policy that is for token 0, and log-probs of a teacher that is for token 5; V = 10."""
    generator = torch.Generator().manual_seed(2)
    logits, teacher = (0.1 * torch.randn(10, generator=generator, dtype=torch.float64) for _ in range(2))
    logits[0] += lead
    teacher[5] += teachers
    return logits, teacher.log_softmax(0)


def in_float32(kind: Any, of: Any, logits: Tensor, teacher: Tensor, ids: list[int]) -> tuple[Tensor, Tensor]:
    """Loss and gradient of the logits as a learner has them, which computes log-probs from a head."""
    head = logits.float()[:, None].requires_grad_()
    named = torch.tensor([ids])
    told, _ = token_logprobs(torch.ones(1, 1), head, named, rest_of=named)
    given = place(
        logits.float().log_softmax(0),
        teacher.float(),
        ids,
        of=of,
        policy_top_logprobs=told[:, :-1],
        policy_rest_logprobs=told[:, -1],
    )
    loss = GKD(divergence=kind, top_of=of, top_k=2)(given, 0).loss
    [gradient] = torch.autograd.grad(loss, head)
    return loss.detach().double(), gradient[:, 0].double()


def in_float64(kind: Any, of: Any, logits: Tensor, teacher: Tensor, ids: list[int]) -> tuple[Tensor, Tensor]:
    """The same of outcomes with nothing rounded."""
    exact = logits.clone().requires_grad_()
    sides = [
        torch.cat([side[ids], side[others_than(ids)].logsumexp(0)[None]])
        for side in (exact.log_softmax(0), teacher)
    ]
    loss = plainly(kind, *sides)
    [gradient] = torch.autograd.grad(loss, exact)
    return loss.detach(), gradient


def others_than(ids: list[int]) -> list[int]:
    """Of ten tokens."""
    return [token for token in range(10) if token not in ids]


@pytest.mark.parametrize("of", ["policy", "teacher"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lead", [6.0, 13.0, 16.0, 25.0, 60.0])
def test_a_policy_that_is_sure_of_the_wrong_token_learns_in_float32(lead: float, kind: Any, of: Any) -> None:
    logits, teacher = wrong(lead)
    ids = (logits if of == "policy" else teacher).topk(2).indices.tolist()
    loss, found = in_float32(kind, of, logits, teacher, ids)
    bucketed, wanted = in_float64(kind, of, logits, teacher, ids)
    torch.testing.assert_close(loss, bucketed, rtol=1e-4, atol=1e-6)
    # A log-prob of the learner is off by a step of its logits, which is 2e-6 from 16 on.
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    exact = logits.clone().requires_grad_()
    whole = plainly(kind, exact.log_softmax(0), teacher)
    assert loss <= whole + 1e-5
    if kind == "forward_kl":
        # The teacher has all but 0.006 of its probability elsewhere. With a floor of 1e-6 below what the
        # policy's two leave it was 0.034 at a lead of 16.
        [of_whole] = torch.autograd.grad(whole, exact)
        assert found[0].item() == pytest.approx(of_whole[0].item(), rel=1e-3)
        assert found[0] > 0.9


def test_the_loss_of_a_policy_that_is_sure_grows_with_its_lead() -> None:
    losses = []
    for lead in (13.0, 14.0, 16.0, 18.0, 40.0):
        logits, teacher = wrong(lead)
        loss, _ = in_float32("forward_kl", "policy", logits, teacher, logits.topk(2).indices.tolist())
        losses.append(loss.item())
    share = 1 - teacher[0].exp().item()
    rises = [loss - losses[0] for loss in losses[1:]]
    assert rises == pytest.approx([share * lead for lead in (1, 3, 5, 27)], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_that_is_sure_is_within_its_rest_of_the_whole(kind: Any) -> None:
    # The teacher has 1e-10 outside of its own two, which float32 tells as 1.9e-6.
    logits, teacher = wrong(0.0, teachers=25.0)
    ids = teacher.topk(2).indices.tolist()
    loss, found = in_float32(kind, "teacher", logits, teacher, ids)
    bucketed, wanted = in_float64(kind, "teacher", logits, teacher, ids)
    if kind == "reverse_kl":
        others = others_than(ids)
        outside = logits.softmax(0)[others].sum()
        at_most = outside * (math.log(3.9e-6) - teacher[others].logsumexp(0))
        assert 0 <= bucketed - loss <= at_most
        assert torch.equal(found.sign(), wanted.sign())
    else:
        torch.testing.assert_close(loss, bucketed, rtol=0, atol=2e-4)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_where_both_are_sure_of_the_same_next_to_nothing_is_left(kind: Any) -> None:
    logits, teacher = wrong(0.0, teachers=25.0)
    logits[5] = 60.0
    loss, gradient = in_float32(kind, "teacher", logits, teacher, [5, 0])
    assert loss.abs() < 2e-4
    assert gradient.abs().max() < 4e-6


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
        policy_rest_logprobs=tokens(-math.inf),
    )
    assert GKD()(given, 0).loss.item() == pytest.approx(0, abs=1e-9)


def test_masked_end_tokens_and_who_is_asked() -> None:
    given = place(tokens(0.5, 0.5).log(), tokens(0.25, 0.75).log(), [0], is_end=torch.tensor([True]))
    assert GKD(mask_end_token=True)(given, 0).loss.item() == 0
    assert (GKD().teacher_top_k, GKD().policy_top_k) == (64, 0)
    policys = GKD(top_of="policy", top_k=8)
    assert (policys.teacher_top_k, policys.policy_top_k) == (0, 8)
    with pytest.raises(ValueError, match="gkd needs likely tokens of each place"):
        GKD()(batch(tokens(-1), teacher_logprobs=tokens(-1)), 0)
    told = {"top_logprobs": tokens(-1)[None], "policy_top_logprobs": tokens(-1)[None]}
    with pytest.raises(ValueError, match=r"gkd needs what .* \(TokenBatch.policy_rest_logprobs\)"):
        GKD()(batch(tokens(-1), teacher_logprobs=tokens(-1), **told), 0)
