"""Recomputed activations: the same gradients, and that much less kept for the backward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from rlad_core.activations import recompute_activations
from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.packing import PackedBatch, pack

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
    ),
]


def batch() -> PackedBatch:
    generator = np.random.default_rng(0)
    return pack(
        [
            (generator.integers(3, 320, prompt), generator.integers(3, 320, response))
            for prompt, response in [(5, 30), (1, 1), (40, 25), (2, 30), (7, 7)]
        ]
    )


def passes(tiny_model, how, device: str) -> tuple[dict[str, Tensor], int, str]:
    """Gradients of a forward and backward pass, the bytes that the layers kept between them, and the way."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model.path, dtype=dtype, attn_implementation=PACKED_ATTENTION
    )
    chosen = recompute_activations(model, how)
    module = ResponseLogprobs(model.to(device)).train()
    kept: dict[int, int] = {}
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs, entropy = module(batch().to(device), with_entropy=True)
    assert entropy is not None
    (logprobs @ torch.linspace(-1, 1, len(logprobs), device=device) + 0.1 * entropy.sum()).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return gradients, sum(kept.values()), chosen


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("how", ["full", "selective"])
def test_gradients_are_the_same_to_the_last_bit(tiny_model, how: str, device: str) -> None:
    wanted, everything, _ = passes(tiny_model, "off", device)
    gradients, kept, _ = passes(tiny_model, how, device)
    assert kept < everything
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0, name
        if device == "cpu":
            assert torch.equal(gradients[name], gradient), name
        else:  # atomic additions of the attention's backward come in any order
            torch.testing.assert_close(gradients[name], gradient, rtol=2**-6, atol=2**-6), name


def test_auto_goes_by_size(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passes(tiny_model, "auto", "cpu")[2] == "off"
    monkeypatch.setattr("rlad_core.large.LARGE_FROM_PARAMETERS", 1000)
    assert passes(tiny_model, "auto", "cpu")[2] == "full"
