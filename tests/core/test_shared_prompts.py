"""Attention behind prompts that sequences share, against each sequence by itself, gradients included."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlad_core.shared_prompts import Layout, Span, attend_behind_prompts

groups = st.lists(
    st.tuples(st.integers(1, 30), st.lists(st.integers(1, 50), max_size=5)), min_size=1, max_size=4
)


def laid_out(lengths: list[tuple[int, list[int]]]) -> list[Span]:
    spans, end = [], 0
    for prompt, responses in lengths:
        prefix = (end, end + prompt)
        spans.append(Span(*prefix))
        bounds = np.cumsum([prefix[1], *responses]).tolist()
        spans += [Span(start, stop, prefix) for start, stop in pairwise(bounds)]
        end = bounds[-1]
    return spans


def from_the_definition(query: Tensor, key: Tensor, value: Tensor, spans: list[Span], scale: float) -> Tensor:
    """With all scores of a sequence at once."""
    groups = query.shape[1] // key.shape[1]
    outputs = []
    for span in spans:
        own = torch.arange(span.start, span.stop)
        seen = torch.cat([torch.arange(*(span.prefix or (0, 0))), own])
        k, v = (each[seen].repeat_interleave(groups, dim=1) for each in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query[own], k) * scale
        scores = scores.masked_fill(seen > own[:, None], -torch.inf)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v))
    return torch.cat(outputs)


@given(lengths=groups, heads=st.sampled_from([(4, 4), (4, 2), (3, 1)]), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_values_and_gradients_are_those_of_each_sequence(
    lengths: list[tuple[int, list[int]]], heads: tuple[int, int], seed: int
) -> None:
    spans = laid_out(lengths)
    many, few = heads
    generator = torch.Generator().manual_seed(seed)

    def states(count: int) -> Tensor:
        return torch.randn(spans[-1].stop, count, 8, generator=generator, dtype=torch.float64)

    inputs = [states(count).requires_grad_() for count in (many, few, few)]
    weights = states(many)
    found = attend_behind_prompts(*inputs, Layout.of(spans), scale=0.4)
    wanted = from_the_definition(*inputs, spans, 0.4)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-10)
    for got, expected in zip(
        torch.autograd.grad(found, inputs, weights), torch.autograd.grad(wanted, inputs, weights), strict=True
    ):
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("size", [30.0, 1e4])
def test_large_scores_stay_finite(size: float) -> None:
    spans = laid_out([(3, [5, 2]), (1, [4])])
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(spans[-1].stop, 2, 8, generator=generator).mul(size).requires_grad_() for _ in range(3)
    ]
    found = attend_behind_prompts(*inputs, Layout.of(spans), scale=None)
    assert found.isfinite().all()
    assert all(each.isfinite().all() for each in torch.autograd.grad(found.sum(), inputs))
