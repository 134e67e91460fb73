"""Attention of many sequences in few calls, against each sequence by itself, gradients included."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlad_core.attention import Blocks, alike, attend

lengths = st.lists(st.one_of(st.integers(1, 6), st.integers(1, 90)), min_size=1, max_size=12)


def states(total: int, heads: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(total, heads, 8, generator=generator, dtype=dtype).requires_grad_()


def one_by_one(query: Tensor, key: Tensor, value: Tensor, bounds: list[int], window: int | None) -> Tensor:
    """From the definition, with all scores of a sequence at once."""
    groups = query.shape[1] // key.shape[1]
    outputs = []
    for start, stop in pairwise(bounds):
        q = query[start:stop]
        k, v = (x[start:stop].repeat_interleave(groups, dim=1) for x in (key, value))
        place = torch.arange(stop - start)
        back = place[:, None] - place
        seen = (back >= 0) & (back < (window or stop))
        scores = torch.einsum("qhd,khd->hqk", q, k) / 8**0.5
        outputs.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v))
    return torch.cat(outputs)


@given(
    sizes=lengths,
    heads=st.sampled_from([(4, 4), (4, 2), (3, 1)]),
    window=st.none() | st.integers(1, 40),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_values_and_gradients_are_those_of_each_sequence(
    sizes: list[int], heads: tuple[int, int], window: int | None, seed: int
) -> None:
    bounds = np.cumsum([0, *sizes]).tolist()
    many, few = heads
    inputs = [states(bounds[-1], count, seed + n) for n, count in enumerate((many, few, few))]
    weights = states(bounds[-1], many, seed + 3).detach()
    found = attend(*inputs, Blocks.of_bounds(bounds), scale=None, window=window)
    wanted = one_by_one(*inputs, bounds, window)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-10)
    gradients = zip(
        torch.autograd.grad(found, inputs, weights), torch.autograd.grad(wanted, inputs, weights), strict=True
    )
    for got, expected in gradients:
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-10)


@given(sizes=lengths)
@settings(max_examples=60, deadline=None)
def test_every_row_has_one_place_and_padding_is_little(sizes: list[int]) -> None:
    bounds = np.cumsum([0, *sizes]).tolist()
    blocks = Blocks.of_bounds(bounds)
    laid = torch.cat([rows.flatten() for rows in blocks.rows])
    assert laid[blocks.place].tolist() == list(range(bounds[-1]))
    assert len(set(blocks.place.tolist())) == bounds[-1]
    for rows in blocks.rows:
        own = [len(set(line.tolist())) for line in rows]
        assert min(own) >= 0.85 * max(own) - 16
        assert rows.shape[1] <= max(own) + 15
    assert sorted(place for members in alike(sizes) for place in members) == list(range(len(sizes)))


def test_sequences_of_about_one_length_share_a_call() -> None:
    assert len(Blocks.of_bounds(np.cumsum([0, *[191, 192, 180] * 20]).tolist()).rows) == 1
    assert len(Blocks.of_bounds(np.cumsum([0, *range(1, 17)]).tolist()).rows) == 1
    assert len(Blocks.of_bounds([0, 1000, 1010]).rows) == 2


def test_rows_of_a_rectangle_do_not_see_each_other() -> None:
    sizes = [5, 6, 7]
    bounds = np.cumsum([0, *sizes]).tolist()
    inputs = [states(bounds[-1], 2, n, torch.float32).detach() for n in range(3)]
    before = attend(*inputs, Blocks.of_bounds(bounds), scale=None, window=None)
    for mine in range(3):
        rows = slice(bounds[mine], bounds[mine + 1])
        others = [each.clone().mul_(3) for each in inputs]
        for other, own in zip(others, inputs, strict=True):
            other[rows] = own[rows]
        after = attend(*others, Blocks.of_bounds(bounds), scale=None, window=None)
        assert torch.equal(before[rows], after[rows])
        assert not torch.equal(before, after)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_precision_is_that_of_the_inputs(dtype: torch.dtype) -> None:
    inputs = [states(9, 2, n, dtype).detach() for n in range(3)]
    assert attend(*inputs, Blocks.of_bounds([0, 4, 9]), scale=0.5, window=None).dtype == dtype
