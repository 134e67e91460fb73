"""The normaliser of TRRD's anchor: by hand, against all of the vocabulary, and its order in k."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlad_core.objectives.anchor import log_normaliser, log_rest, with_rest


def distributions(places: int, vocabulary: int, seed: int, *, sharp: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    old, teacher = (
        (sharp * torch.randn(places, vocabulary, generator=generator, dtype=torch.float64)).log_softmax(1)
        for _ in range(2)
    )
    return old, teacher


def of_top(old: Tensor, teacher: Tensor, k: int, alpha: float) -> Tensor:
    top, ids = teacher.topk(k, dim=1)
    return log_normaliser(with_rest(old.gather(1, ids)), with_rest(top), alpha)


def test_by_hand() -> None:
    # pi_old = (0.8, 0.1, 0.1), pi_T = (0.2, 0.4, 0.4): Z = sqrt(0.16) + 2 sqrt(0.04) = 0.8.
    old = torch.tensor([[0.8, 0.1, 0.1]], dtype=torch.float64).log()
    teacher = torch.tensor([[0.2, 0.4, 0.4]], dtype=torch.float64).log()
    assert log_normaliser(old, teacher, 0.5).exp().item() == pytest.approx(0.8)
    # The teacher's likeliest alone: sqrt(0.1 * 0.4) + sqrt(0.9 * 0.6).
    found = log_normaliser(with_rest(old[:, 1:2]), with_rest(teacher[:, 1:2]), 0.5).exp().item()
    assert found == pytest.approx(0.2 + math.sqrt(0.54))


def test_it_is_1_where_the_two_agree_and_0_where_nothing_is_shared() -> None:
    old, _ = distributions(5, 11, 0)
    assert log_normaliser(old, old, 0.3).abs().max() < 1e-12
    apart = torch.tensor([[0.0, -math.inf]], dtype=torch.float64)
    assert log_normaliser(apart, apart.flip(1), 0.5).item() == -math.inf
    # The ends: the anchor is one of the two, whole, also where that one has zeros.
    assert log_normaliser(apart, apart.flip(1), 0.0).item() == 0
    assert log_normaliser(apart, apart.flip(1), 1.0).item() == 0


@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(0, 1))
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
    torch.testing.assert_close(
        of_top(old.float(), teacher.float(), 64, 0.5).double(), wide, atol=1e-5, rtol=0
    )
    assert (wide >= exact).all()


def test_the_rest_of_nearly_all_is_small_and_never_a_number_that_is_none() -> None:
    certain = torch.tensor([[0.0], [-1e-9], [1e-7], [-50.0]])
    rest = log_rest(certain)
    assert not rest.isnan().any()
    assert rest[0] == -math.inf
    assert rest[2] == -math.inf
    assert rest[3] == pytest.approx(0.0)
