"""When log-probs are a fused kernel's, and that they are those of the chunks."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from rlad_core import fused_logprobs as fused
from rlad_core.language_model import head as heads
from rlad_core.language_model.head import OutputHead
from rlad_core.logprobs import token_logprobs

TOKENS, ROWS, WIDTH = 50, 64, 32


@pytest.fixture
def head() -> OutputHead:
    """Of a model whose last rows are no tokens."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=ROWS, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=32,
    )  # fmt: skip
    return OutputHead(Qwen3ForCausalLM(config), TOKENS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What the kernel is asked for, where a library stands in for it that computes as it is documented to."""
    calls: list[dict[str, object]] = []

    def linear_cross_entropy(e: Tensor, c: Tensor, targets: Tensor, **more: object) -> Tensor:
        calls.append(more)
        logits = e.float() @ c.to(e.dtype).float().t()
        return logits.logsumexp(1) - (e * c[targets]).float().sum(1)

    stand_in = SimpleNamespace(linear_cross_entropy=linear_cross_entropy)
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", stand_in)  # type: ignore[arg-type]
    monkeypatch.setattr(heads, "can_fuse", lambda hidden, targets, bias: targets.ndim == 1 and bias is None)
    return calls


def states(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(9, WIDTH, generator=generator).requires_grad_()
    return hidden, torch.randint(0, TOKENS, (9,), generator=generator)


def test_values_and_gradients_are_those_of_the_chunks(head: OutputHead, asked: list[object]) -> None:
    head.fuse()
    hidden, targets = states()
    weight = head._head.weight
    head._scale = 0.5
    fast, entropy = head.logprobs(hidden, targets, chunk_size=4)
    assert asked == [{"reduction": "none", "filter_eps": None}]
    assert entropy is None
    assert fast.dtype == torch.float32
    slow, _ = token_logprobs(hidden, weight, targets, scale=0.5, tokens=TOKENS)
    torch.testing.assert_close(fast, slow)
    for got, want in zip(
        torch.autograd.grad(fast.sum(), (hidden, weight)),
        torch.autograd.grad(slow.sum(), (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_of_16_bit_states_the_targets_logit_is_of_the_normalisers_head(
    precision: torch.dtype, head: OutputHead, asked: list[object]
) -> None:
    """FSDP hands over a head in float32."""
    head.fuse()
    hidden, targets = states()
    hidden, weight = 20 * hidden.bfloat16(), head._head.weight.to(precision)
    head._head.weight = torch.nn.Parameter(weight)
    fast, _ = head.logprobs(hidden, targets, chunk_size=4)
    slow, _ = token_logprobs(hidden, weight, targets, tokens=TOKENS)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)


def test_what_needs_logits_has_them(head: OutputHead, asked: list[object]) -> None:
    head.fuse()
    hidden, targets = states()
    assert head.logprobs(hidden, targets, chunk_size=4, with_entropy=True)[1] is not None
    assert head.logprobs(hidden, targets[:, None].expand(-1, 2), chunk_size=4)[0].shape == (9, 2)
    seen = SimpleNamespace(see=lambda rows, logits: None, close=lambda seen, normaliser: None)
    head.logprobs(hidden, targets, chunk_size=4, beside=seen)
    head.fused = False
    head.logprobs(hidden, targets, chunk_size=4)
    assert asked == []


def test_only_16_bits_on_a_gpu_without_a_bias_are_its_own() -> None:
    hidden, targets = states()
    assert not fused.can_fuse(hidden, targets, None)
    there = SimpleNamespace(is_cuda=True, element_size=lambda: 2)
    assert fused.can_fuse(there, targets, None)  # type: ignore[arg-type]
    assert not fused.can_fuse(there, targets, torch.zeros(ROWS))  # type: ignore[arg-type]
    assert not fused.can_fuse(there, targets[:, None], None)  # type: ignore[arg-type]


def test_a_library_that_is_not_there_is_named_before_the_first_pass(
    head: OutputHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", None)
    with pytest.raises(ModuleNotFoundError, match="cut-cross-entropy's, which is not installed"):
        head.fuse()
    assert not head.fused
    hidden, targets = states()
    with pytest.raises(ModuleNotFoundError, match="pip install cut-cross-entropy, or write "):
        fused.fused_logprobs(hidden, torch.zeros(ROWS, WIDTH), targets)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.skipif(
    find_spec("cut_cross_entropy") is None, reason="needs cut-cross-entropy (the extra 'fused')"
)
def test_the_kernel_itself() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    hidden, weight = (
        torch.randn(rows, 256, device="cuda", dtype=torch.bfloat16, generator=generator)
        .div(4)
        .requires_grad_()
        for rows in (300, 2000)
    )
    targets = torch.randint(0, 1990, (300,), device="cuda", generator=generator)
    fast = fused.fused_logprobs(hidden, weight, targets, tokens=1990)
    slow, _ = token_logprobs(hidden, weight, targets, tokens=1990)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)
    for got, want in zip(
        torch.autograd.grad(fast.sum(), (hidden, weight)),
        torch.autograd.grad(slow.sum(), (hidden, weight)),
        strict=True,
    ):
        assert (got.float() - want.float()).norm() < 1e-2 * want.float().norm()
