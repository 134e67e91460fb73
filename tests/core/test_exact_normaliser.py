"""log Z over the whole vocabulary from two heads, against sums in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlad_core.exact_normaliser import ExactNormaliser, HeadWeights
from rlad_core.logprobs import token_logprobs
from rlad_core.objectives.anchor import log_normaliser
from rlad_core.objectives.rest import with_rest


class Sides:
    """States and heads of two models of other widths, in float64."""

    def __init__(self, places: int, vocabulary: int, seed: int, *, sharp: float = 3.0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.policy, self.head = sharp * normal(places, 16), normal(vocabulary, 16) / 4
        self.teacher, self.teacher_head = sharp * normal(places, 24), normal(vocabulary, 24) / 24**0.5
        self.targets = torch.randint(vocabulary, (places,), generator=generator)

    def exact(self, alpha: float, ends: tuple[int, ...] = ()) -> Tensor:
        """The sum itself, over all tokens."""
        sides = [
            (states @ head.t()).softmax(dim=1)
            for states, head in ((self.policy, self.head), (self.teacher, self.teacher_head))
        ]
        if ends:
            others = [token for token in range(sides[0].shape[1]) if token not in ends]
            sides = [
                torch.cat([each[:, others], each[:, list(ends)].sum(dim=1, keepdim=True)], 1)
                for each in sides
            ]
        return (sides[0] ** alpha * sides[1] ** (1 - alpha)).sum(dim=1).log()

    def found(
        self, alpha: float, dtype: torch.dtype, *, chunk_size: int = 5, ends: tuple[int, ...] = ()
    ) -> Tensor:
        head = HeadWeights(self.teacher_head.to(dtype), None, 1.0, self.teacher_head.shape[0])
        beside = ExactNormaliser(self.teacher.to(dtype), head, alpha, ends)
        token_logprobs(
            self.policy.to(dtype), self.head.to(dtype), self.targets, chunk_size=chunk_size, beside=beside
        )
        return beside.log_z


def test_by_hand() -> None:
    # One number makes the distributions (0.8, 0.2) and (0.2, 0.8): Z = 2 sqrt(0.16) = 0.8.
    head = torch.tensor([[math.log(4.0)], [0.0]], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    beside = ExactNormaliser(-one, HeadWeights(head, None, 1.0, 2), 0.5)
    logprobs, _ = token_logprobs(one, head, torch.tensor([0]), beside=beside)
    assert logprobs.exp().item() == pytest.approx(0.8)
    assert beside.log_z.exp().item() == pytest.approx(0.8)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 60), st.floats(0.01, 0.99), st.integers(1, 9))
def test_it_is_the_sum_over_all_tokens_whatever_the_chunks(
    seed: int, vocabulary: int, alpha: float, chunk_size: int
) -> None:
    sides = Sides(7, vocabulary, seed)
    found = sides.found(alpha, torch.float64, chunk_size=chunk_size)
    torch.testing.assert_close(found, sides.exact(alpha).clamp(max=0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_float32_is_within_1e_5_at_a_large_vocabulary_and_the_teachers_top_k_bounds_it(alpha: float) -> None:
    sides = Sides(12, 152_000, 1)
    exact = sides.exact(alpha)
    torch.testing.assert_close(sides.found(alpha, torch.float32).double(), exact, atol=1e-5, rtol=0)
    old, teacher = (
        (states @ head.t()).log_softmax(dim=1)
        for states, head in ((sides.policy, sides.head), (sides.teacher, sides.teacher_head))
    )
    for k in (1, 64, 4096):
        top, ids = teacher.topk(k, dim=1)
        bound = log_normaliser(with_rest(old.gather(1, ids)), with_rest(top), alpha)
        assert (bound <= 0).all()
        assert (bound >= exact - 1e-12).all()


def test_of_bfloat16_the_error_is_that_of_its_states() -> None:
    sides = Sides(64, 4_096, 2)
    error = (sides.found(0.5, torch.bfloat16).double() - sides.exact(0.5)).abs()
    assert error.max() < 0.05
    # What is computed of the rounded states is exact again.
    for name in ("policy", "head", "teacher", "teacher_head"):
        setattr(sides, name, getattr(sides, name).bfloat16().double())
    torch.testing.assert_close(sides.found(0.5, torch.bfloat16).double(), sides.exact(0.5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("ends", [(3,), (0, 5, 29)])
def test_end_tokens_may_be_one_outcome(ends: tuple[int, ...]) -> None:
    sides = Sides(9, 30, 3)
    found = sides.found(0.3, torch.float64, ends=ends)
    torch.testing.assert_close(found, sides.exact(0.3, ends), atol=1e-12, rtol=0)
    assert (found >= sides.found(0.3, torch.float64) - 1e-12).all()


def test_equal_models_have_none_and_rows_that_are_no_tokens_no_part() -> None:
    sides = Sides(6, 40, 4)
    head = HeadWeights(sides.head, None, 1.0, 33)
    beside = ExactNormaliser(sides.policy, head, 0.4)
    token_logprobs(sides.policy, sides.head, sides.targets % 33, tokens=33, chunk_size=4, beside=beside)
    assert beside.log_z.abs().max() < 1e-12


def test_bias_and_scale_of_a_head_take_part() -> None:
    sides = Sides(6, 20, 5)
    bias = torch.linspace(-1, 1, 20, dtype=torch.float64)
    beside = ExactNormaliser(sides.teacher, HeadWeights(sides.teacher_head, bias, 0.5, 20), 0.4)
    token_logprobs(sides.policy, sides.head, sides.targets, beside=beside)
    old = (sides.policy @ sides.head.t()).log_softmax(1)
    teacher = (0.5 * (sides.teacher @ sides.teacher_head.t() + bias)).log_softmax(1)
    torch.testing.assert_close(beside.log_z, log_normaliser(old, teacher, 0.4), atol=1e-12, rtol=0)


def test_places_behind_the_responses_are_left_out_and_gradients_stay() -> None:
    sides = Sides(8, 30, 6)
    states = sides.policy.clone().requires_grad_()
    plain, _ = token_logprobs(states, sides.head, sides.targets, chunk_size=3)
    [wanted] = torch.autograd.grad(plain.sum(), states)
    head = HeadWeights(sides.teacher_head, None, 1.0, 30)
    beside = ExactNormaliser(sides.teacher[:5], head, 0.3)
    logprobs, _ = token_logprobs(states, sides.head, sides.targets, chunk_size=3, beside=beside)
    [found] = torch.autograd.grad(logprobs.sum(), states)
    assert torch.equal(found, wanted)
    assert torch.equal(logprobs, plain)
    torch.testing.assert_close(beside.log_z, sides.exact(0.3)[:5], atol=1e-12, rtol=0)
    assert not beside.log_z.requires_grad


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_at_the_ends_of_alpha_there_is_none(alpha: float) -> None:
    head = HeadWeights(torch.zeros(2, 3), None, 1.0, 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        ExactNormaliser(torch.zeros(1, 3), head, alpha)
