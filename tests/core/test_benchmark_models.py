"""Models of benchmarks end their responses as often as they are told to, and give no token that is none."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.models import write_sampler


@pytest.mark.parametrize("median", [300, None])
def test_lengths_are_in_the_weights(median: int | None, tmp_path: Path) -> None:
    write_sampler("student", tmp_path, median)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    torch.manual_seed(0)
    with torch.no_grad():
        logits = model(torch.randint(5, 200, (4, 60))).logits
    probabilities = logits.double().softmax(dim=-1)
    ends = probabilities[..., tokenizer.eos_token_id]
    if median is None:
        assert ends.max() < 1e-20
    else:
        # Of a geometric distribution: (1 - p) ** median = 1 / 2.
        assert ((1 - ends) ** median - 0.5).abs().max() < 0.02
    assert probabilities[..., len(tokenizer) :].sum(dim=-1).max() < 1e-20
