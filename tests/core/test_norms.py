"""RMSNorm in few passes: values and gradients are those of transformers' own, and of the function."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from rlad_core.norms import lean_norms, rms_norm


def gradients(norm: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, weight.grad = x.clone().requires_grad_(), None
    result = norm(x)
    (result * torch.arange(result.numel()).reshape(result.shape).cos().to(result.dtype)).sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    return result.detach(), x.grad, weight.grad.clone()


def test_by_hand() -> None:
    # mean(9, 16) = 12.5: 3 and 4 over its root, times 2 and 1.
    root = 12.5**0.5
    found = rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([2.0, 1.0]), 0.0)
    torch.testing.assert_close(found, torch.tensor([[6 / root, 4 / root]]))


def test_the_gradient_is_the_functions() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-6), (x, weight))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)], ids=["float32", "bfloat16"]
)
def test_as_transformers_has_it(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    theirs = Qwen3RMSNorm(48).to(dtype)
    with torch.no_grad():
        theirs.weight.uniform_(0.5, 2)
    x = (3 * torch.randn(1, 7, 2, 48)).to(dtype)
    expected = gradients(theirs, x, theirs.weight)
    assert lean_norms(theirs) == 1
    for found, wanted in zip(gradients(theirs, x, theirs.weight), expected, strict=True):
        assert found.dtype == wanted.dtype
        assert (found.double() - wanted.double()).norm() <= tolerance * wanted.double().norm()


def test_which_norms_are_meant() -> None:
    config = Qwen3Config(num_hidden_layers=2, hidden_size=32, num_attention_heads=2, num_key_value_heads=1,
                         head_dim=16, intermediate_size=32, vocab_size=50)  # fmt: skip
    # Two of the layer, two of queries and keys, and the last one.
    assert lean_norms(Qwen3ForCausalLM(config)) == 2 * 4 + 1
    other = GemmaRMSNorm(8)  # 1 + weight
    assert lean_norms(other) == 0
    assert "forward" not in vars(other)
