"""The upper bound of what a teacher leaves to all tokens that it does not tell."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from token_batches import tokens

from rlad_core.objectives.rest import MOST_TOKENS, ROUNDING, log_rest, with_rest

EPSILON = 2**-23


def test_by_hand() -> None:
    told = tokens(0.5, 0.25).log()[None]
    assert log_rest(told).exp().item() == pytest.approx(0.25)
    # 3e-9 in float64, of which float32 has no digit.
    sure = tokens(1 - 4e-9, 1e-9).log()[None]
    assert log_rest(sure, sure[:, 1]).exp().item() == pytest.approx(3e-9, rel=1e-5)
    assert log_rest(sure.float(), sure[:, 1].float()).exp().item() == pytest.approx(ROUNDING * EPSILON)
    # A million others, each at most as likely as the least likely told.
    surer = torch.tensor([[0.0, -40.0]])
    assert log_rest(surer, surer[:, 1]).item() == pytest.approx(math.log(MOST_TOKENS) - 40)
    assert with_rest(told).exp().sum().item() == pytest.approx(1)


def test_it_is_finite_and_at_most_1_whatever_is_told() -> None:
    told = torch.tensor([[0.0], [-1e-9], [1e-7], [-50.0], [-math.inf]])
    rest = log_rest(told)
    assert rest.isfinite().all()
    assert (rest <= 0).all()
    assert rest[3] == pytest.approx(0.0)
    assert log_rest(torch.zeros(0, 2), torch.zeros(0)).shape == (0,)


@given(st.integers(0, 10_000), st.floats(0, 35), st.sampled_from([1, 3, 40, 64]))
def test_it_bounds_what_is_left_to_twice_the_rounding(seed: int, gap: float, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 20 + 2 * torch.randn(1, 64, generator=generator)
    logits[:, 0] = logits.amax() + gap
    top, ids = logits.topk(k, dim=1)
    exact = logits.double().softmax(1).scatter(1, ids, 0.0).sum().item()
    # As engines tell them that take off the normaliser at once: off by half a step of it, here of 16 to 64.
    told = top - logits.double().logsumexp(dim=1, keepdim=True).float()
    found = log_rest(told, told.amin(dim=1)).exp().item()
    assert exact * (1 - 1e-6) <= found <= exact + (2 * ROUNDING + 4) * EPSILON
