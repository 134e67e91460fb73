"""What is told of a distribution against float64 over the whole of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlad_core.token_details import token_details


def drawn(places: int, rows: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, a head with its bias, and targets."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(places, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(rows, generator=generator, dtype=torch.float64)
    targets = torch.randint(rows - 2, (places,), generator=generator)
    return hidden.to(dtype), weight.to(dtype), bias.to(dtype), targets


@given(
    places=st.integers(1, 9),
    rows=st.integers(4, 12),
    chunk_size=st.integers(1, 10),
    scale=st.sampled_from([1.0, 0.25]),
    seed=st.integers(0, 99),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_detail_is_read_from_one_distribution(
    places: int, rows: int, chunk_size: int, scale: float, seed: int, data: st.DataObject
) -> None:
    tokens = rows - 2
    hidden, weight, bias, targets = drawn(places, rows, torch.float64, seed)
    k = data.draw(st.integers(0, tokens), "k")
    ends = data.draw(st.sets(st.integers(0, tokens - 1), min_size=1), "ends")
    named = torch.tensor(
        data.draw(st.lists(st.tuples(*[st.integers(0, tokens - 1)] * 2), min_size=places, max_size=places))
    )
    told = token_details(
        hidden,
        weight,
        targets,
        top_k=k,
        entropy=True,
        end_ids=torch.tensor(sorted(ends)),
        named_ids=named,
        bias=bias,
        scale=scale,
        tokens=tokens,
        chunk_size=chunk_size,
    )
    probabilities = (scale * (hidden @ weight.T + bias))[:, :tokens].softmax(1)
    logs = probabilities.log()
    wanted = {
        "teacher_logprobs": logs.gather(1, targets[:, None])[:, 0],
        "entropy": -(probabilities * logs).sum(1),
        "teacher_end_logprobs": probabilities[:, sorted(ends)].sum(1).log(),
        "named_logprobs": logs.gather(1, named),
    }
    if k:
        wanted["top_logprobs"] = logs.sort(1, descending=True).values[:, :k]
        ids = told.pop("top_token_ids")
        torch.testing.assert_close(logs.gather(1, ids), told["top_logprobs"])
    assert told.keys() == wanted.keys()
    for name, values in wanted.items():
        torch.testing.assert_close(told[name], values, msg=lambda m, n=name: f"{n}: {m}")


def test_end_tokens_that_are_all_tokens_are_certain() -> None:
    hidden, weight, _, targets = drawn(3, 6, torch.float32)
    told = token_details(hidden * 50, weight, targets, end_ids=torch.arange(6))
    torch.testing.assert_close(told["teacher_end_logprobs"], torch.zeros(3), atol=1e-5, rtol=0)


def test_bfloat16_is_computed_in_float32() -> None:
    hidden, weight, _, targets = drawn(4, 6, torch.bfloat16)
    told = token_details(hidden, weight, targets, entropy=True, end_ids=torch.tensor([0, 3]))
    wide = token_details(
        hidden.double(), weight.double(), targets, entropy=True, end_ids=torch.tensor([0, 3])
    )
    for name, values in told.items():
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.double(), wide[name], atol=1e-5, rtol=0)


def test_more_than_there_are_tokens_is_refused() -> None:
    hidden, weight, _, targets = drawn(2, 6, torch.float32)
    with pytest.raises(ValueError, match=r"k is 5; it must be in 1\.\.4"):
        token_details(hidden, weight, targets, top_k=5, tokens=4)
