import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlad_core.logprobs import token_logprobs

CHUNKS = [1, 3, 7, 64]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
        ],
    ),
]


def inputs(
    tokens: int = 7, width: int = 5, vocabulary: int = 11, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The same from all logits at once."""
    logprobs = torch.log_softmax(hidden @ weight.T, dim=-1)
    return logprobs[torch.arange(len(targets)), targets], -(logprobs.exp() * logprobs).sum(-1)


def test_values_by_hand() -> None:
    # Logits (0, ln 3): p = (1/4, 3/4).
    weight = torch.tensor([[0.0], [math.log(3.0)]])
    logprobs, entropy = token_logprobs(torch.ones(2, 1), weight, torch.tensor([0, 1]), with_entropy=True)
    torch.testing.assert_close(logprobs, torch.tensor([0.25, 0.75]).log())
    assert entropy is not None
    torch.testing.assert_close(entropy, torch.full((2,), 0.5623351446))


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_equals_log_softmax(chunk_size: int) -> None:
    hidden, weight, targets = inputs()
    expected_logprobs, expected_entropy = plain(hidden, weight, targets)
    upstream = torch.linspace(-1, 2, len(targets))
    expected = torch.autograd.grad(
        (upstream * expected_logprobs + upstream.flip(0) * expected_entropy).sum(), (hidden, weight)
    )

    logprobs, entropy = token_logprobs(hidden, weight, targets, chunk_size=chunk_size, with_entropy=True)
    assert entropy is not None
    torch.testing.assert_close(logprobs, expected_logprobs)
    torch.testing.assert_close(entropy, expected_entropy)
    actual = torch.autograd.grad((upstream * logprobs + upstream.flip(0) * entropy).sum(), (hidden, weight))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_several_targets_of_each_place(chunk_size: int) -> None:
    hidden, weight, targets = inputs()
    others = torch.stack([targets, targets.flip(0), torch.zeros_like(targets), targets], dim=1)
    logprobs, entropy = token_logprobs(hidden, weight, others, chunk_size=chunk_size, with_entropy=True)
    assert entropy is not None
    whole = torch.log_softmax(hidden @ weight.T, dim=-1)
    torch.testing.assert_close(logprobs, whole.gather(1, others))
    upstream = torch.linspace(-1, 2, others.numel()).view(others.shape)
    expected = torch.autograd.grad(
        (upstream * whole.gather(1, others)).sum() - (whole.exp() * whole).sum(), (hidden, weight)
    )
    actual = torch.autograd.grad((upstream * logprobs).sum() + entropy.sum(), (hidden, weight))
    torch.testing.assert_close(actual, expected)
    alone, _ = token_logprobs(hidden, weight, targets, chunk_size=chunk_size)
    assert torch.equal(logprobs[:, 0], alone)


@pytest.mark.parametrize("with_entropy", [False, True])
@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_all_tokens_but_some_together(chunk_size: int, with_entropy: bool) -> None:
    hidden, weight, targets = inputs()
    some = torch.stack([targets.flip(0), torch.zeros_like(targets), targets.flip(0)], dim=1)
    asked = torch.cat([targets[:, None], some], dim=1)
    logprobs, entropy = token_logprobs(
        hidden, weight, asked, chunk_size=chunk_size, with_entropy=with_entropy, rest_of=some
    )
    whole = torch.log_softmax(hidden @ weight.T, dim=-1)
    others = whole.scatter(1, some, -math.inf).logsumexp(dim=1, keepdim=True)
    wanted = torch.cat([whole.gather(1, asked), others], dim=1)
    torch.testing.assert_close(logprobs, wanted)
    upstream = torch.linspace(-1, 1, wanted.numel()).view(wanted.shape)
    mine, reference = (upstream * logprobs).sum(), (upstream * wanted).sum()
    if entropy is not None:
        mine, reference = mine + entropy.sum(), reference - (whole.exp() * whole).sum()
    torch.testing.assert_close(
        torch.autograd.grad(mine, (hidden, weight)), torch.autograd.grad(reference, (hidden, weight))
    )
    padded = torch.cat([weight.detach(), torch.ones(3, 5)])
    shorter, _ = token_logprobs(hidden, padded, asked, tokens=len(weight), rest_of=some)
    torch.testing.assert_close(shorter, logprobs)


def with_logits(*logits: float) -> tuple[Tensor, Tensor]:
    """A hidden state and a head that give these logits."""
    return torch.ones(1, 1), torch.tensor(logits)[:, None].requires_grad_()


def test_the_others_of_a_sure_policy_have_digits_and_a_gradient() -> None:
    # Of float32's 1 the first two leave nothing. d log R / dz is p / R of the others, minus p of all.
    for lead in (20.0, 60.0, 79.0):
        hidden, head = with_logits(lead, 1.0, 0.0, math.log(3.0))
        named = torch.tensor([[0, 1]])
        logprobs, _ = token_logprobs(hidden, head, named, rest_of=named)
        assert logprobs[0, 2].item() == pytest.approx(math.log(4.0) - lead, abs=1e-5)
        [gradient] = torch.autograd.grad(logprobs[0, 2], head)
        torch.testing.assert_close(
            gradient[:, 0], torch.tensor([-1.0, 0.0, 0.25, 0.75]), rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("lead", [0.0, 85.0, 95.0, 200.0])
def test_the_gradient_is_finite_where_the_others_are_hardly_there(lead: float) -> None:
    hidden, head = with_logits(lead, 0.0, 0.0)
    for named in ([[0]], [[0, 1, 2]]):
        asked = torch.tensor(named)
        logprobs, entropy = token_logprobs(hidden, head, asked, rest_of=asked, with_entropy=True)
        assert entropy is not None
        assert not logprobs.isnan().any()
        assert logprobs[0, -1] == -math.inf or len(named[0]) == 1
        [gradient] = torch.autograd.grad(1e3 * logprobs[0, -1] + entropy.sum(), head)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("with_entropy", [False, True])
def test_gradient_of_logprobs_alone(with_entropy: bool) -> None:
    hidden, weight, targets = inputs()
    expected = torch.autograd.grad(plain(hidden, weight, targets)[0].square().sum(), (hidden, weight))
    logprobs, entropy = token_logprobs(hidden, weight, targets, chunk_size=3, with_entropy=with_entropy)
    assert (entropy is not None) == with_entropy
    torch.testing.assert_close(torch.autograd.grad(logprobs.square().sum(), (hidden, weight)), expected)


def test_gradient_of_entropy_alone() -> None:
    hidden, weight, targets = inputs()
    expected = torch.autograd.grad(plain(hidden, weight, targets)[1].square().sum(), (hidden, weight))
    _, entropy = token_logprobs(hidden, weight, targets, chunk_size=3, with_entropy=True)
    assert entropy is not None
    torch.testing.assert_close(torch.autograd.grad(entropy.square().sum(), (hidden, weight)), expected)


def test_gradients_against_finite_differences() -> None:
    hidden, weight, targets = inputs(dtype=torch.float64)

    def both(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        logprobs, entropy = token_logprobs(hidden, weight, targets, chunk_size=3, with_entropy=True)
        assert entropy is not None
        return logprobs, entropy

    assert torch.autograd.gradcheck(both, (hidden, weight))


def test_frozen_inputs_get_no_gradient() -> None:
    hidden, weight, targets = inputs()
    expected_hidden, expected_weight = torch.autograd.grad(
        plain(hidden, weight, targets)[0].sum(), (hidden, weight)
    )
    logprobs, _ = token_logprobs(hidden, weight.detach(), targets, chunk_size=3)
    logprobs.sum().backward()
    torch.testing.assert_close(hidden.grad, expected_hidden)
    logprobs, _ = token_logprobs(hidden.detach(), weight, targets, chunk_size=3)
    logprobs.sum().backward()
    torch.testing.assert_close(weight.grad, expected_weight)
    assert not token_logprobs(hidden.detach(), weight.detach(), targets)[0].requires_grad


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_inputs_have_float32_logits_and_sums(device: str) -> None:
    tokens, width, vocabulary = 96, 64, 200
    hidden, weight, targets = (
        tensor.detach().to(device) for tensor in inputs(tokens, width, vocabulary, torch.bfloat16)
    )
    hidden, weight = (hidden / 4).requires_grad_(), weight.requires_grad_()
    wide_hidden, wide_weight = (tensor.detach().float().requires_grad_() for tensor in (hidden, weight))
    expected_logprobs, expected_entropy = plain(wide_hidden, wide_weight, targets)
    expected = torch.autograd.grad(
        expected_logprobs.sum() + expected_entropy.sum(), (wide_hidden, wide_weight)
    )

    # One token at a time: sums kept in bfloat16 would lose most of 96 small contributions.
    logprobs, entropy = token_logprobs(hidden, weight, targets, chunk_size=1, with_entropy=True)
    assert entropy is not None
    assert logprobs.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logprobs, expected_logprobs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy, rtol=1e-5, atol=1e-5)
    actual = torch.autograd.grad(logprobs.sum() + entropy.sum(), (hidden, weight))
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == torch.bfloat16
        if device == "cuda":  # the products' factors are bfloat16 there: 2.5e-3 on an H200
            assert (got.float() - want).norm() < 4e-3 * want.norm()
        else:  # half a unit in bfloat16's last place, and a little for what cancels
            torch.testing.assert_close(got.float(), want, rtol=2**-8, atol=1e-5)


def test_extreme_logits_stay_finite() -> None:
    hidden, weight, targets = inputs()
    hidden = (hidden.detach() * 1e4).requires_grad_()
    logprobs, entropy = token_logprobs(hidden, weight, targets, with_entropy=True)
    assert entropy is not None
    (logprobs.sum() + entropy.sum()).backward()
    for tensor in (logprobs, entropy, hidden.grad, weight.grad):
        assert tensor is not None
        assert tensor.isfinite().all()


def test_no_tokens() -> None:
    hidden, weight, _ = inputs()
    logprobs, entropy = token_logprobs(
        hidden[:0], weight, torch.zeros(0, dtype=torch.long), with_entropy=True
    )
    assert entropy is not None
    (logprobs.sum() + entropy.sum()).backward()
    assert weight.grad is not None
    assert not weight.grad.any()
    none = torch.zeros(0, 2, dtype=torch.long)
    assert token_logprobs(hidden[:0], weight, none, rest_of=none)[0].shape == (0, 3)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor any operation returned while it was active."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.numel = max(self.numel, leaf.numel())
        return result


@pytest.mark.parametrize("with_rest", [False, True])
@pytest.mark.parametrize("with_entropy", [False, True])
def test_never_holds_tokens_times_vocabulary(with_entropy: bool, with_rest: bool) -> None:
    tokens, width, vocabulary, chunk_size = 256, 8, 1000, 32
    hidden, weight, targets = inputs(tokens, width, vocabulary)
    asked = targets[:, None] if with_rest else targets
    with LargestTensor() as chunked:
        logprobs, entropy = token_logprobs(
            hidden,
            weight,
            asked,
            chunk_size=chunk_size,
            with_entropy=with_entropy,
            rest_of=asked if with_rest else None,
        )
        (logprobs.sum() if entropy is None else logprobs.sum() + entropy.sum()).backward()
    assert chunked.numel == chunk_size * vocabulary

    with LargestTensor() as naive:
        plain(hidden, weight, targets)[0].sum().backward()
    assert naive.numel == tokens * vocabulary, "the measure sees the tensor when it is there"


def test_errors_name_the_shapes() -> None:
    hidden, weight, targets = inputs()
    with pytest.raises(ValueError, match=r"\[T, D\] and \[V, D\]"):
        token_logprobs(hidden, weight[:, :2], targets)
    with pytest.raises(ValueError, match="one target each"):
        token_logprobs(hidden, weight, targets[:3])
    with pytest.raises(ValueError, match=r"rest_of has shape \(7, 1\) and targets \(7,\)"):
        token_logprobs(hidden, weight, targets, rest_of=targets[:, None])
    with pytest.raises(ValueError, match="chunk_size is 0"):
        token_logprobs(hidden, weight, targets, chunk_size=0)
