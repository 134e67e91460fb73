"""The normaliser of TRRD's anchor: by hand, against all of the vocabulary, and its order in k.

The order is that of float32 too, where a teacher is sure and its rest has no digits.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlad_core.objectives.anchor import log_normaliser
from rlad_core.objectives.rest import with_rest


def distributions(places: int, vocabulary: int, seed: int, *, sharp: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    old, teacher = (
        (sharp * torch.randn(places, vocabulary, generator=generator, dtype=torch.float64)).log_softmax(1)
        for _ in range(2)
    )
    return old, teacher


def apart(side: Tensor, ids: Tensor) -> Tensor:
    """Log-probs of some tokens and of all others together, summed of the others."""
    others = side.scatter(1, ids, -math.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([side.gather(1, ids), others], dim=1)


def of_top(old: Tensor, teacher: Tensor, k: int, alpha: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Of the teacher's k likeliest, as a learner and a teacher tell them in a precision."""
    top, ids = teacher.topk(k, dim=1)
    told = top.to(dtype)
    return log_normaliser(apart(old, ids).to(dtype), with_rest(told, told.amin(dim=1)), alpha).double()


def test_by_hand() -> None:
    # pi_old = (0.8, 0.1, 0.1), pi_T = (0.2, 0.4, 0.4): Z = sqrt(0.16) + 2 sqrt(0.04) = 0.8.
    old = torch.tensor([[0.8, 0.1, 0.1]], dtype=torch.float64).log()
    teacher = torch.tensor([[0.2, 0.4, 0.4]], dtype=torch.float64).log()
    assert log_normaliser(old, teacher, 0.5).exp().item() == pytest.approx(0.8)
    # The teacher's likeliest alone: sqrt(0.1 * 0.4) + sqrt(0.9 * 0.6).
    ids = torch.tensor([[1]])
    found = log_normaliser(apart(old, ids), with_rest(teacher[:, 1:2]), 0.5).exp().item()
    assert found == pytest.approx(0.2 + math.sqrt(0.54))


def test_it_is_1_where_the_two_agree_and_0_where_nothing_is_shared() -> None:
    old, _ = distributions(5, 11, 0)
    assert log_normaliser(old, old, 0.3).abs().max() < 1e-12
    sure = torch.tensor([[0.0, -math.inf]], dtype=torch.float64)
    assert log_normaliser(sure, sure.flip(1), 0.5).item() == -math.inf


@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_the_fewer_tokens_are_told_apart_the_larger_it_is(seed: int, vocabulary: int, alpha: float) -> None:
    old, teacher = distributions(3, vocabulary, seed)
    exact = log_normaliser(old, teacher, alpha)
    before = exact
    for k in sorted({vocabulary, max(1, vocabulary // 2), 1}, reverse=True):
        found = of_top(old, teacher, k, alpha)
        assert (found <= 0).all()
        assert (found >= before - 1e-9).all()
        before = found
    torch.testing.assert_close(of_top(old, teacher, vocabulary, alpha), exact, atol=1e-9, rtol=0)


def test_float32_is_within_1e_5_of_float64_at_a_large_vocabulary() -> None:
    old, teacher = distributions(16, 152_000, 1)
    exact = log_normaliser(old, teacher, 0.5)
    torch.testing.assert_close(
        log_normaliser(old.float(), teacher.float(), 0.5).double(), exact, atol=1e-5, rtol=0
    )
    wide = of_top(old, teacher, 64, 0.5)
    torch.testing.assert_close(of_top(old, teacher, 64, 0.5, torch.float32), wide, atol=1e-5, rtol=0)
    assert (wide >= exact).all()


ROUNDED = 2e-6
"""Of log Z in float32."""


def sure_teacher(gap: float, *, places: int = 6, vocabulary: int = 20_000) -> tuple[Tensor, Tensor]:
    """A teacher whose likeliest token leads by this many nats, and a policy that agrees in it with 0.46."""
    generator = torch.Generator().manual_seed(3)
    old, teacher = (
        scale * torch.randn(places, vocabulary, generator=generator, dtype=torch.float64) for scale in (3, 2)
    )
    teacher[:, 0] = teacher.amax(dim=1) + gap
    old[:, 0] = -math.inf
    old[:, 0] = old.logsumexp(dim=1) + math.log(0.46 / 0.54)
    return old.log_softmax(1), teacher.log_softmax(1)


@pytest.mark.parametrize("alpha", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("gap", [6.0, 12.0, 18.0, 24.0, 30.0])
def test_the_order_holds_in_float32_of_a_teacher_that_is_sure(gap: float, alpha: float) -> None:
    old, teacher = sure_teacher(gap)
    exact = log_normaliser(old, teacher, alpha)
    for k in (1, 64, teacher.shape[1]):
        ids = teacher.topk(k, dim=1).indices
        whole = log_normaliser(apart(old, ids), apart(teacher, ids), alpha)
        found = of_top(old, teacher, k, alpha, torch.float32)
        assert (found >= whole - ROUNDED).all()
        assert (found >= exact - ROUNDED).all()
        assert (found <= 0).all()
        # What the teacher's rest may be too large by, to the power that it enters with.
        too_much = found.exp() - whole.exp()
        assert (too_much <= 0.55**alpha * 3.9e-6 ** (1 - alpha) + ROUNDED).all()
        if gap == 6 or k == teacher.shape[1]:  # the rest has its digits, or is none
            torch.testing.assert_close(found, whole, atol=1e-3 if k == 64 else 1e-4, rtol=0)


def test_what_rounding_leaves_of_a_sure_teacher_by_hand() -> None:
    # pi_T = (1 - 2e-9, 1e-9, 1e-9) and pi_old = (0.5, 0.25, 0.25), of token 0 told apart: the teacher's rest
    # of 2e-9 is told as 16 epsilons, 1.9e-6. As nothing it would make log Z_1 -0.6238 at alpha 0.9.
    teacher = torch.tensor([[1 - 2e-9, 1e-9, 1e-9]], dtype=torch.float64).log()
    old = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    for alpha, exact in ((0.5, -0.34653), (0.7, -0.4827), (0.9, -0.4973)):
        ids = torch.tensor([[0]])
        whole = log_normaliser(apart(old, ids), apart(teacher, ids), alpha).item()
        assert whole == pytest.approx(exact, abs=1e-4)
        found = of_top(old, teacher, 1, alpha, torch.float32).item()
        wanted = math.log(0.5**alpha + 0.5**alpha * (16 * 2**-23) ** (1 - alpha))
        assert found == pytest.approx(wanted, abs=2e-6)
        assert found > whole


def test_the_order_holds_of_log_probs_as_an_engine_rounds_them() -> None:
    # Log-probs are differences of numbers as large as the logits: all are off by the same, here 1e-6.
    old, teacher = sure_teacher(22.0)
    top, ids = teacher.topk(64, dim=1)
    for off in (-1e-6, 1e-6):
        told = (top + off).float()
        for alpha in (0.3, 0.7, 0.9):
            found = log_normaliser(apart(old, ids).float(), with_rest(told, told.amin(dim=1)), alpha)
            assert (found.double() >= log_normaliser(old, teacher, alpha) - ROUNDED).all()


def test_a_policy_that_is_sure_is_summed_and_not_bounded() -> None:
    # The teacher doubts and the policy has 1e-12 outside: told in float32 they leave nothing of 1.
    teacher, _ = distributions(4, 500, 7, sharp=1.0)
    logits = torch.zeros(4, 500, dtype=torch.float64)
    logits.scatter_(1, teacher.topk(1, dim=1).indices, 33.8)
    old = logits.log_softmax(1)
    for alpha in (0.1, 0.3, 0.7):
        ids = teacher.topk(8, dim=1).indices
        whole = log_normaliser(apart(old, ids), apart(teacher, ids), alpha)
        found = of_top(old, teacher, 8, alpha, torch.float32)
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
