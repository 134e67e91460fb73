"""Attention over prompts that responses share, against its definition in float64."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlad_core.attention import fits_varlen
from rlad_core.shared_prompts import Layout, Span
from services.teacher.scoring.attention import attend
from services.teacher.scoring.interface import TokenPair
from services.teacher.scoring.packing import pack_sharing_prompts
from services.teacher.scoring.strips import strips_of

# Of each group its prompt's length and those of its responses.
groups = st.lists(
    st.tuples(st.integers(1, 40), st.lists(st.integers(1, 40), min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
)
alike = st.builds(
    lambda prompt, response, size, count: [(prompt, [response] * size)] * count,
    st.integers(1, 9), st.integers(2, 40), st.integers(2, 5), st.integers(2, 5),
)  # fmt: skip


def packed(lengths: list[tuple[int, list[int]]]) -> tuple[Layout, int, np.ndarray]:
    """The layout, its tokens, and which token sees which, by the sequences that were packed."""
    pairs = []
    for size, responses in lengths:
        prompt = np.arange(size, dtype=np.int32)
        pairs += [TokenPair(prompt, np.arange(each, dtype=np.int32)) for each in responses]
    stream = pack_sharing_prompts(pairs)
    total = stream.input_ids.numel()
    sees = np.zeros((total, total), dtype=bool)
    end = 0
    for size, responses in lengths:
        prompt = np.arange(end, end + size)
        end += size
        sees[np.ix_(prompt, prompt)] = np.tri(size, dtype=bool)
        for inputs in (each - 1 for each in responses):
            own = np.arange(end, end + inputs)
            end += inputs
            sees[np.ix_(own, prompt)] = True
            sees[np.ix_(own, own)] = np.tri(inputs, dtype=bool)
    assert end == total
    return stream.layout, total, sees


def states(total: int, heads: int, seed: int, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, heads, total, size, generator=generator, dtype=torch.float64)


def defined(query: Tensor, key: Tensor, value: Tensor, sees: np.ndarray) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    k, v = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    scores = (query @ k.mT / query.shape[-1] ** 0.5).masked_fill(~torch.from_numpy(sees), -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


@given(lengths=groups | alike, heads=st.sampled_from([(2, 2), (4, 2)]), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_any_packing_is_computed_as_defined(
    lengths: list[tuple[int, list[int]]], heads: tuple[int, int], seed: int
) -> None:
    layout, total, sees = packed(lengths)
    many, few = heads
    inputs = states(total, many, seed), states(total, few, seed + 1), states(total, few, seed + 2)
    out, _ = attend(nn.Identity(), *inputs, None, layout=layout)
    torch.testing.assert_close(out, defined(*inputs, sees), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(("window", "value_size"), [(7, 8), (1, 8), (None, 5), (1000, 8)])
def test_windows_and_values_of_another_size(window: int | None, value_size: int) -> None:
    layout, total, sees = packed([(9, [12, 3, 30]), (2, [20]), (9, [5, 5])])
    inputs = states(total, 4, 0), states(total, 2, 1), states(total, 2, 2, value_size)
    out, _ = attend(nn.Identity(), *inputs, None, layout=layout, sliding_window=window)
    position = np.zeros(total, dtype=int)
    for span in layout.spans:
        before = span.prefix[1] - span.prefix[0] if span.prefix else 0
        position[span.start : span.stop] = before + np.arange(span.stop - span.start)
    near = position[:, None] - position < (window or total)
    torch.testing.assert_close(out, defined(*inputs, sees & near), atol=1e-12, rtol=1e-10)


def test_groups_alike_are_computed_in_two_calls() -> None:
    layout, _, _ = packed([(64, [192] * 8)] * 5)
    assert [rows.shape for rows in layout.own.rows] == [(40, 192), (5, 64)]
    assert [rows.shape for rows in layout.prefixes] == [(5, 64)]
    assert Layout.of([Span(0, 3)]).prefixes == ()


def kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    own_bounds: Tensor,
    seen_bounds: Tensor,
    longest: int,
    longest_seen: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What torch says that `varlen_attn` computes, by its definition: there is no kernel for CPUs."""
    assert enable_gqa
    assert scale is None
    left, right = window_size
    out = torch.full_like(query, torch.nan)
    for (start, stop), (first, end) in zip(
        pairwise(own_bounds.tolist()), pairwise(seen_bounds.tolist()), strict=True
    ):
        own, seen = stop - start, end - first
        assert 0 < own <= longest
        assert own <= seen <= longest_seen
        ahead = np.arange(seen) - (np.arange(own)[:, None] + seen - own)
        sees = (ahead <= right) & ((ahead >= -left) | (left == -1))
        q, k, v = query[start:stop], key[first:end], value[first:end]
        out[start:stop] = defined(*(each.transpose(0, 1)[None] for each in (q, k, v)), sees)[0]
    return out


@given(
    lengths=groups | alike,
    copies=st.integers(0, 5),
    window=st.none() | st.integers(1, 90),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_strips_for_a_gpu_are_the_same_attention(
    lengths: list[tuple[int, list[int]]], copies: int, window: int | None, seed: int
) -> None:
    layout, total, _ = packed(lengths)
    inputs = states(total, 4, seed), states(total, 2, seed + 1), states(total, 2, seed + 2)
    wanted, _ = attend(nn.Identity(), *inputs, None, layout=layout, sliding_window=window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.teacher.scoring.strips.varlen_attn", kernel)
        patch.setattr("services.teacher.scoring.attention.fits_varlen", lambda query, value: True)
        laid = list(strips_of(layout.spans, copies))
        found, _ = attend(nn.Identity(), *inputs, None, layout=layout, strips=laid, sliding_window=window)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-10)


def test_strips_are_few_and_their_copies_bounded() -> None:
    spans = packed([(64, [192] * 8)] * 5)[0].spans
    assert len(list(strips_of(spans))) == 1
    spans = packed([(1000, [9] * 500)])[0].spans
    stream = 1000 + 500 * 8
    laid = list(strips_of(spans))
    assert max(strip.seen.numel() for strip in laid) <= 4 * stream
    # 1,000 + 500 x 1,008 rows are seen, of which 20,000 fit into a strip.
    assert len(laid) == 27
    assert sum(strip.rows.stop - strip.rows.start for strip in laid) == stream


@pytest.mark.parametrize(
    ("dtype", "size", "value_size", "there"),
    [
        (torch.bfloat16, 128, 128, True), (torch.float16, 64, 64, True), (torch.bfloat16, 256, 256, True),
        (torch.float32, 128, 128, False), (torch.bfloat16, 100, 100, False),
        (torch.bfloat16, 264, 264, False), (torch.bfloat16, 192, 128, False),
    ],
)  # fmt: skip
def test_what_a_gpu_has_a_kernel_for(dtype: torch.dtype, size: int, value_size: int, there: bool) -> None:
    query, value = torch.empty(1, 1, 3, size, dtype=dtype), torch.empty(1, 1, 3, value_size, dtype=dtype)
    assert fits_varlen(query, value) is there


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("window", [None, 7])
def test_a_gpu_computes_strips_as_the_cpu_does(window: int | None) -> None:
    layout, total, _ = packed([(9, [12, 3, 30]), (2, [20]), (300, [5, 500, 1])])
    inputs = [states(total, heads, seed, 64).bfloat16() for seed, heads in enumerate((4, 2, 2))]
    exact = [each.double() for each in inputs]
    wanted, _ = attend(nn.Identity(), *exact, None, layout=layout, sliding_window=window)
    laid = [strip.to(torch.device("cuda")) for strip in strips_of(layout.spans)]
    there = [each.cuda() for each in inputs]
    found, _ = attend(nn.Identity(), *there, None, layout=layout, strips=laid, sliding_window=window)
    torch.testing.assert_close(found.cpu().double(), wanted, atol=2e-2, rtol=2e-2)
