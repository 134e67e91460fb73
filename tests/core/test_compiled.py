"""Compiled layers: the same numbers, and a way on where compiling fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.backends.debugging import aot_eager
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM

from rlad_core.activations import recompute_activations
from rlad_core.compiled import compile_layers
from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.packing import PackedBatch, pack


def batch(*lengths: tuple[int, int]) -> PackedBatch:
    generator = np.random.default_rng(len(lengths))
    return pack([(generator.integers(3, 320, p), generator.integers(3, 320, r)) for p, r in lengths])


BATCHES = [batch((5, 30), (40, 25)), batch((9, 9), (3, 14)), batch((20, 31), (2, 30), (7, 7))]


def module(tiny_model, recompute: Any) -> ResponseLogprobs:
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model.path, dtype=torch.float32, attn_implementation=PACKED_ATTENTION
    )
    recompute_activations(model, recompute)
    return ResponseLogprobs(model).train()


def passes(answering: ResponseLogprobs) -> list[Tensor]:
    """Log-probs of each batch, and the gradients of all of them."""
    found = []
    for one in BATCHES:
        logprobs, _ = answering(one)
        logprobs.sum().backward()
        found.append(logprobs.detach())
    return [*found, *(parameter.grad for parameter in answering.model.parameters())]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("recompute", ["off", "full", "selective"])
def test_numbers_are_the_same(tiny_model, recompute: str) -> None:
    wanted = passes(module(tiny_model, "off"))
    answering, said = module(tiny_model, recompute), []
    compile_layers(answering.model.model.layers, tell=said.append, backend=aot_eager)
    for got, expected in zip(passes(answering), wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert not said


def nothing(*_: Any) -> Any:
    """A backend that compiles nothing."""
    raise RuntimeError("no C++ compiler on this machine")


def no_backward(graph: Any, inputs: Any) -> Any:
    """A backend whose compiler fails on the backward pass alone."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("no kernel for this device")

    return aot_autograd(fw_compiler=lambda module, _: module.forward, bw_compiler=broken)(graph, inputs)


@pytest.mark.parametrize(
    ("backend", "why"),
    [(nothing, "no C++ compiler on this machine"), (no_backward, "no kernel for this device")],
)
def test_a_compiler_that_fails_costs_nothing_but_speed(tiny_model, backend: Any, why: str) -> None:
    wanted = passes(module(tiny_model, "off"))
    answering, said = module(tiny_model, "off"), []
    compile_layers(answering.model.model.layers, tell=said.append, backend=backend)
    for got, expected in zip(passes(answering), wanted, strict=True):
        assert torch.equal(got, expected)
    [reason] = said
    assert why in reason


class Layer(nn.Module):
    """Of one of two kinds, each of which is compiled by itself."""

    def __init__(self, bends: bool) -> None:
        super().__init__()
        self.bends = bends
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, hidden: Tensor) -> Tensor:
        new = hidden @ self.weight
        new = new.tanh() * new.sigmoid()  # a compiler keeps fewer tensors of it
        return hidden + (new.sin() if self.bends else new)


def no_later_backward() -> Any:
    """A backend whose compiler fails on every backward pass but the first."""
    ways: list[Any] = []

    def broken(module: Any, _: Any) -> Any:
        ways.append(module)
        if len(ways) > 1:
            raise RuntimeError("no kernel for this kind")
        return module.forward

    def compiling(graph: Any, inputs: Any) -> Any:
        return aot_autograd(fw_compiler=lambda module, _: module.forward, bw_compiler=broken)(graph, inputs)

    return compiling


@pytest.mark.parametrize("recomputes", [False, True])
def test_a_later_compilation_that_fails_costs_no_more(recomputes: bool) -> None:
    """Layers before it ran compiled in the same pass, and are recomputed so: else checkpoints do not fit."""

    def passes(layers: list[Layer]) -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        for tokens in (5, 1, 8):
            # As behind an embedding; an input without a gradient would be another kind for the first layer.
            hidden = torch.randn(1, tokens, 4, generator=generator).requires_grad_()
            for layer in layers:
                hidden = checkpoint(layer, hidden, use_reentrant=False) if recomputes else layer(hidden)
            hidden.sum().backward()
        return [layer.weight.grad for layer in layers]

    torch.manual_seed(0)
    layers = [Layer(bends=False), Layer(bends=False), Layer(bends=True), Layer(bends=False)]
    wanted = [gradient.clone() for gradient in passes(layers)]
    for layer in layers:
        layer.weight.grad = None
    said: list[str] = []
    compile_layers(layers, tell=said.append, backend=no_later_backward())
    for got, expected in zip(passes(layers), wanted, strict=True):
        torch.testing.assert_close(got, expected)
    [reason] = said
    assert "no kernel for this kind" in reason
