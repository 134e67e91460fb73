"""The packed forward pass against a plain transformers forward of each sequence alone, with gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.packing import filler, pack

Pair = tuple[list[int], list[int]]
# (prompt, response) lengths: single tokens, a long one, and neighbours of equal length.
LENGTHS = [(5, 3), (1, 1), (40, 25), (2, 30), (7, 7), (7, 7), (1, 12)]


@pytest.fixture(params=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tiny_model, untied_tiny_model) -> Path:
    return (tiny_model if request.param == "tied" else untied_tiny_model).path


def packed_model(folder: Path, chunk_size: int = 1024) -> ResponseLogprobs:
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=PACKED_ATTENTION
    )
    return ResponseLogprobs(model, chunk_size)


def plain_model(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def sequences(seed: int = 0) -> list[Pair]:
    rng = np.random.default_rng(seed)
    return [(rng.integers(3, 320, p).tolist(), rng.integers(3, 320, r).tolist()) for p, r in LENGTHS]


def reference(model: PreTrainedModel, pairs: list[Pair]) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies of the response tokens, one sequence at a time, from whole logits."""
    logprobs, entropies = [], []
    for prompt, response in pairs:
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        all_logprobs = torch.log_softmax(logits, dim=-1)
        logprobs.append(all_logprobs.gather(1, torch.tensor(response)[:, None])[:, 0])
        entropies.append(-(all_logprobs.exp() * all_logprobs).sum(-1))
    return torch.cat(logprobs), torch.cat(entropies)


@pytest.mark.parametrize("chunk_size", [3, 1024])
def test_values_equal_a_plain_forward(folder: Path, chunk_size: int) -> None:
    pairs = sequences()
    with torch.no_grad():
        logprobs, entropy = packed_model(folder, chunk_size)(pack(pairs), with_entropy=True)
        wanted, wanted_entropy = reference(plain_model(folder), pairs)
    assert logprobs.dtype == torch.float32
    assert wanted.std() > 1, "a model whose log-probs are all alike would prove nothing"
    torch.testing.assert_close(logprobs, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy, wanted_entropy, atol=1e-5, rtol=0)


def test_gradients_equal_those_of_a_plain_forward(folder: Path) -> None:
    pairs = sequences(1)
    packed, plain = packed_model(folder), plain_model(folder)
    logprobs, entropy = packed(pack(pairs), with_entropy=True)
    wanted, wanted_entropy = reference(plain, pairs)
    weights = torch.linspace(-1, 1, len(wanted))
    (logprobs @ weights + 0.1 * entropy.sum()).backward()
    (wanted @ weights + 0.1 * wanted_entropy.sum()).backward()
    theirs = dict(plain.named_parameters())
    mine = dict(packed.model.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, parameter in mine.items():
        assert parameter.grad is not None, name
        scale = float(theirs[name].grad.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(
            parameter.grad, theirs[name].grad, atol=1e-5 * scale, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_shared_prompts_change_neither_values_nor_gradients(folder: Path) -> None:
    rng = np.random.default_rng(5)
    prompts = [rng.integers(3, 320, size).tolist() for size in (40, 1, 7)]
    pairs = [
        (prompts[which], rng.integers(3, 320, size).tolist())
        for which, size in [(0, 25), (1, 3), (0, 1), (2, 60), (0, 30), (1, 12), (0, 25)]
    ]
    packed, plain = packed_model(folder), plain_model(folder)
    batch = pack(pairs, share_prompts=True)
    assert len(batch.input_ids) == 48 + sum(len(response) for _, response in pairs)
    logprobs, entropy = packed(batch, with_entropy=True)
    wanted, wanted_entropy = reference(plain, pairs)
    torch.testing.assert_close(logprobs, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy, wanted_entropy, atol=1e-5, rtol=0)
    weights = torch.linspace(-1, 1, len(wanted))
    (logprobs @ weights + 0.1 * entropy.sum()).backward()
    (wanted @ weights + 0.1 * wanted_entropy.sum()).backward()
    theirs = dict(plain.named_parameters())
    for name, parameter in packed.model.named_parameters():
        scale = float(theirs[name].grad.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(
            parameter.grad, theirs[name].grad, atol=1e-5 * scale, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_sequence_sees_nothing_of_its_neighbours(folder: Path) -> None:
    pairs, others = sequences(2), sequences(3)
    model = packed_model(folder)
    bounds = np.cumsum([0, *(len(response) for _, response in pairs)])
    with torch.no_grad():
        before, _ = model(pack(pairs))
        for kept in range(len(pairs)):
            changed = [pair if index == kept else others[index] for index, pair in enumerate(pairs)]
            after, _ = model(pack(changed))
            mine = slice(bounds[kept], bounds[kept + 1])
            assert torch.equal(before[mine], after[mine])
            assert not torch.equal(before, after)


def test_no_gradient_crosses_from_one_sequence_to_another(untied_tiny_model) -> None:
    # Disjoint token ids; with an untied head the embedding's gradient shows which inputs were looked at.
    first, second = list(range(10, 30)), list(range(50, 70))
    model = packed_model(untied_tiny_model.path)
    logprobs, _ = model(pack([(first[:5], first[5:]), (second[:5], second[5:])]))
    logprobs[15:].sum().backward()
    touched = model.model.get_input_embeddings().weight.grad.abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == second[:-1], "the last token predicts nothing"


def test_the_order_and_company_of_sequences_do_not_matter(folder: Path) -> None:
    pairs = sequences(4)
    model = packed_model(folder)
    with torch.no_grad():
        together = model(pack(pairs[::-1]))[0].split([len(response) for _, response in pairs[::-1]])
        alone = [model(pack([pair]))[0] for pair in pairs]
    for mine, theirs in zip(alone, together[::-1], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_a_filler_passes(folder: Path) -> None:
    logprobs, entropy = packed_model(folder)(filler())
    assert logprobs.shape == (1,)
    assert entropy is None
    (logprobs.sum() * 0.0).backward()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_model_with_other_attention_is_refused(tiny_model, attention: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model.path, attn_implementation=attention)
    with pytest.raises(
        ValueError, match=f"attention is '{attention}'.*attn_implementation='{PACKED_ATTENTION}'"
    ):
        ResponseLogprobs(model)


def test_capped_attention_scores_are_refused() -> None:
    config = Gemma2Config(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        attn_implementation=PACKED_ATTENTION,
    )
    model = ResponseLogprobs(Gemma2ForCausalLM(config))
    with pytest.raises(NotImplementedError, match="capped scores"):
        model(pack([([1, 2, 3], [4, 5, 6])]))
