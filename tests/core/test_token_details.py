"""What is told of a distribution against float64 over the whole of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlad_core.logprobs import token_logprobs
from rlad_core.objectives.rest import ROUNDING, log_rest
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


@pytest.mark.parametrize("offset", [40.0, 70.0, 127.0, -100.0])
@pytest.mark.parametrize("lead", [19.0, 20.0, 24.0])
def test_what_a_sure_teacher_leaves_is_bounded_however_large_its_logits_are(
    offset: float, lead: float
) -> None:
    """One token leads 3,000 equal ones by so many nats, which have 2e-5 to 1e-7 in all."""
    places, vocabulary, k = 100, 3000, 64
    bias = torch.zeros(vocabulary)
    bias[0] = lead
    weight = torch.zeros(vocabulary, 4)
    weight[:, 0] = 1
    hidden = torch.zeros(places, 4)
    hidden[:, 0] = offset - lead + torch.linspace(0, 3, places)
    targets = torch.zeros(places, dtype=torch.long)
    told = token_details(
        hidden, weight, targets, bias=bias, top_k=k, named_ids=torch.arange(k)[None].expand(places, k)
    )
    # Of the float32 logits as they are.
    exact = (hidden[:, :1].expand(places, vocabulary) + bias).double().log_softmax(1)
    for likely in ("top_logprobs", "named_logprobs"):
        ids = told["top_token_ids"] if likely == "top_logprobs" else torch.arange(k)[None].expand(places, k)
        others = exact.scatter(1, ids, -torch.inf).logsumexp(1).exp()
        bound = log_rest(told[likely]).double().exp()
        assert (bound >= others).all()
        assert (bound <= others + 2 * ROUNDING * 2**-23).all()
        error = (told[likely].double() - exact.gather(1, ids)).exp()
        assert ((error - 1).abs() < 2e-6).all()


def test_the_tokens_own_is_what_the_policy_says_of_it_with_the_same_weights() -> None:
    hidden, weight, bias, targets = drawn(50, 300, torch.float32)
    told = token_details(20 * hidden, weight, targets, bias=bias, top_k=1, ranks=True)
    policy, _ = token_logprobs(20 * hidden, weight, targets, bias=bias)
    assert torch.equal(told["teacher_logprobs"], policy)
    logits = 20 * hidden @ weight.T + bias
    assert torch.equal(told["ranks"], (logits >= logits.gather(1, targets[:, None])).sum(1))


def test_more_than_there_are_tokens_is_refused() -> None:
    hidden, weight, _, targets = drawn(2, 6, torch.float32)
    with pytest.raises(ValueError, match=r"k is 5; it must be in 1\.\.4"):
        token_details(hidden, weight, targets, top_k=5, tokens=4)
