"""The packed stream's one attention call on a GPU, in bfloat16, against float32 on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.packing import pack

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

LENGTHS = [(5, 3), (1, 1), (40, 25), (2, 30), (7, 7), (7, 7), (1, 12), (200, 300)]


def module(folder, dtype: torch.dtype, device: str) -> ResponseLogprobs:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=PACKED_ATTENTION)
    return ResponseLogprobs(model.to(device))


def pairs(seed: int) -> list[tuple[list[int], list[int]]]:
    generator = np.random.default_rng(seed)
    return [
        (generator.integers(3, 320, p).tolist(), generator.integers(3, 320, r).tolist()) for p, r in LENGTHS
    ]


def test_values_and_gradients_are_those_of_the_cpu(tiny_model) -> None:
    batch = pack(pairs(0))
    weights = torch.linspace(-1, 1, len(batch.response_ids))
    found = {}
    for device, dtype in (("cpu", torch.float32), ("cpu", torch.bfloat16), ("cuda", torch.bfloat16)):
        answering = module(tiny_model.path, dtype, device)
        logprobs, entropy = answering(batch.to(device), with_entropy=True)
        assert entropy is not None
        (logprobs @ weights.to(device)).backward()
        gradients = torch.cat([p.grad.float().cpu().flatten() for p in answering.model.parameters()])
        found[device, dtype] = (logprobs.detach().cpu(), entropy.detach().cpu(), gradients)
    exact, here, there = found.values()
    for wanted, rounded, got in zip(exact, here, there, strict=True):
        # No further from float32 than bfloat16 is on a CPU, give or take the order of sums.
        assert (got - wanted).norm() <= 2 * (rounded - wanted).norm() + 1e-6 * wanted.norm()


def test_a_sequence_sees_nothing_of_its_neighbours(tiny_model) -> None:
    mine, others = pairs(2), pairs(3)
    answering = module(tiny_model.path, torch.bfloat16, "cuda")
    bounds = np.cumsum([0, *(len(response) for _, response in mine)])
    with torch.no_grad():
        before, _ = answering(pack(mine).to("cuda"))
        for kept in range(len(mine)):
            changed = [pair if index == kept else others[index] for index, pair in enumerate(mine)]
            after, _ = answering(pack(changed).to("cuda"))
            rows = slice(bounds[kept], bounds[kept + 1])
            torch.testing.assert_close(before[rows], after[rows], atol=1e-3, rtol=0)
            assert not torch.equal(before, after)
