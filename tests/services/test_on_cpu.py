"""A pass on CPUs: gated MLPs in place are those of transformers to the bit, and freed memory stays."""

import resource
import sys

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaConfig, GemmaMLP
from transformers.models.llama.modeling_llama import LlamaMLP

from services.teacher.scoring.on_cpu import keep_freed_memory, lean_mlps

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1}


def llama(activation: str) -> LlamaMLP:
    return LlamaMLP(LlamaConfig(**SIZES, hidden_act=activation))


@torch.inference_mode()
def test_in_place_it_is_the_same_to_the_bit() -> None:
    torch.manual_seed(0)
    mlp, x = llama("silu"), torch.randn(1, 9, 16)
    before = x.clone()
    expected = mlp(x)
    assert lean_mlps(mlp) == 1
    assert torch.equal(mlp(x), expected)
    assert torch.equal(x, before)


def test_others_stay_as_they_are() -> None:
    assert lean_mlps(llama("gelu")) == 0
    assert lean_mlps(GemmaMLP(GemmaConfig(**SIZES))) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_is_freed_is_not_asked_of_the_kernel_again() -> None:
    assert keep_freed_memory()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(20):
            bytearray(16 * 2**20)  # 4,096 pages, cleared
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    faults()
    assert faults() < 4096
