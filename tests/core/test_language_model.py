"""Models of many kinds: packed log-probs, entropies and gradients against the model's own forward pass."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from model_kinds import KINDS, ROWS, TOKENS, tiny, write
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs, decoder_layers
from rlad_core.language_model.architecture import CHECKED, refusals
from rlad_core.language_model.loading import load_causal_lm
from rlad_core.language_model.plain_forward import (
    PlainForwardError,
    compare_with_plain,
    probe_pairs,
)
from rlad_core.language_model.vocabulary import token_rows, unknown_token
from rlad_core.packing import pack
from rlad_core.tasks.knights_knaves.tiny import build_tokenizer

Pair = tuple[list[int], list[int]]
LENGTHS = [(5, 3), (1, 1), (12, 25), (2, 9), (7, 7)]


def sequences() -> list[Pair]:
    rng = np.random.default_rng(0)
    return [
        (rng.integers(TOKENS, size=p).tolist(), rng.integers(TOKENS, size=r).tolist()) for p, r in LENGTHS
    ]


def reference(model: PreTrainedModel, pairs: list[Pair]) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies from whole logits, one sequence at a time; padded rows have probability 0."""
    logprobs, entropies = [], []
    for prompt, response in pairs:
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        real = torch.log_softmax(logits[:, :TOKENS], dim=-1)
        logprobs.append(real.gather(1, torch.tensor(response)[:, None])[:, 0])
        entropies.append(-(real.exp() * real).sum(-1))
    return torch.cat(logprobs), torch.cat(entropies)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_equals_the_models_own_forward_pass(kind: str) -> None:
    pairs = sequences()
    packed = ResponseLogprobs(tiny(kind, attention=PACKED_ATTENTION), chunk_size=7, tokens=TOKENS)
    plain = tiny(kind, attention="eager")
    logprobs, entropy = packed(pack(pairs), with_entropy=True)
    wanted, wanted_entropy = reference(plain, pairs)
    assert wanted.std() > 0.3, "a model whose log-probs are all alike would prove nothing"
    # Norms and eager attention's softmax are float32 in transformers whatever the model is.
    torch.testing.assert_close(logprobs, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy, wanted_entropy, atol=1e-5, rtol=0)

    weights = torch.linspace(-1, 1, len(wanted), dtype=torch.float64)
    (logprobs @ weights + 0.1 * entropy.sum()).backward()
    (wanted @ weights + 0.1 * wanted_entropy.sum()).backward()
    theirs = dict(plain.named_parameters())
    for name, parameter in packed.model.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_found_for_sharding(kind: str) -> None:
    assert len(decoder_layers(tiny(kind, attention=PACKED_ATTENTION))) == 2


def test_every_kind_that_is_named_as_checked_is() -> None:
    assert {model_type for model_type, _ in KINDS.values()} == CHECKED


@pytest.mark.parametrize("kind", ["granite, which divides logits", "phi, whose head has a bias", "qwen3"])
def test_a_head_that_is_computed_wrong_is_found_before_a_run(kind: str) -> None:
    model = tiny(kind, attention=PACKED_ATTENTION, dtype=torch.float32)
    module = ResponseLogprobs(model, tokens=TOKENS)
    pairs = probe_pairs(TOKENS)

    def compare() -> None:
        compare_with_plain(
            lambda: module(pack(pairs))[0], lambda: module.plain(pairs), torch.float32, model, "take another"
        )

    compare()
    assert model.config._attn_implementation == PACKED_ATTENTION, "as it was"
    module.head._scale *= 1.5
    with pytest.raises(PlainForwardError, match=r"differ by .* nats between a packed .*; take another"):
        compare()


def test_neither_nan_nor_a_pass_that_fails_is_taken_for_equal() -> None:
    def compare(packed: Callable[[], Tensor]) -> None:
        compare_with_plain(packed, lambda: torch.zeros(1), torch.float32, None, "take another")

    with pytest.raises(PlainForwardError, match="differ by nan"):
        compare(lambda: torch.tensor([torch.nan]))
    with pytest.raises(PlainForwardError, match=r"cannot be computed packed \(KeyError: 'x'\); take another"):
        compare(lambda: {}["x"])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "gemma2"}, "caps its logits"),
        ({"model_type": "gemma2", "attn_logit_softcapping": 50.0}, "caps its attention scores"),
        ({"model_type": "llama", "final_logit_softcapping": 30.0}, "caps its logits"),
        ({"model_type": "gpt_oss"}, "has attention sinks"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "has an encoder"),
        ({"model_type": "mamba"}, r"no attention over whole prefixes \(mamba\)"),
        ({"model_type": "new", "layer_types": ["linear_attention"]}, r"prefixes \(linear_attention\)"),
        ({"model_type": "bloom"}, "attention in a way of its own"),
        ({"text_config": {"model_type": "qwen3_next"}}, "no attention over whole prefixes"),
        (
            {
                "model_type": "phi3",
                "rope_scaling": {"type": "longrope"},
                "original_max_position_embeddings": 4096,
            },
            "rope type longrope.* up to 4096 tokens",
        ),
    ],
)
def test_what_is_refused_is_known_from_the_config(config: dict[str, object], says: str) -> None:
    assert any(re.search(says, reason) for reason in refusals(config, 8192)), refusals(config)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_computed_is_not_refused(kind: str, tmp_path: Path) -> None:
    write(kind, tmp_path)
    assert refusals(json.loads((tmp_path / "config.json").read_text()), 128) == []


def test_a_rope_that_changes_with_length_is_taken_where_it_does_not_yet() -> None:
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 4096}
    assert refusals({"model_type": "phi3", "rope_parameters": rope}, 4096) == []
    assert refusals({"model_type": "phi3", "rope_parameters": rope}, 4097)
    assert refusals({"model_type": "phi3", "rope_parameters": rope})


def test_a_model_that_is_refused_is_not_loaded(tmp_path: Path) -> None:
    AutoConfig.for_model("gemma2").save_pretrained(tmp_path)  # there are no weights to load
    with pytest.raises(ValueError, match=r"caps its logits.*; write another"):
        load_causal_lm(
            str(tmp_path), dtype=torch.float32, attention="eager", max_length=8, advice="write another"
        )


def test_missing_weights_are_no_random_ones(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write("llama", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"lack 1 of the parameters of LlamaForCausalLM, first lm_head.weight"
    ):
        load_causal_lm(str(tmp_path), dtype=torch.float32, attention="eager", max_length=8, advice="")


@pytest.mark.parametrize(
    ("vocabulary", "rows", "tokens"),
    [
        ({"a": 0, "b": 1}, 8, 2),
        ({"a": 0, "b": 1, "<added>": 5}, 8, 6),  # the gap stays in
        ({"a": 0, "b": 1}, 2, 2),
        ({"a": 0, "b": 1, "<added>": 2}, 2, 2),  # a token that the model has no row for
    ],
)
def test_rows_above_the_highest_token_are_padding(vocabulary: dict[str, int], rows: int, tokens: int) -> None:
    assert token_rows(vocabulary, rows) == tokens


def test_no_tokens_are_a_fault() -> None:
    with pytest.raises(ValueError, match="0 tokens"):
        token_rows({}, ROWS)


def test_a_token_that_also_means_something_else_is_no_unknown_one() -> None:
    tokenizer = build_tokenizer(1024)
    assert unknown_token(tokenizer) == tokenizer.unk_token_id
    tokenizer.eos_token = tokenizer.unk_token  # as GPT-2 has it
    assert unknown_token(tokenizer) is None
    tokenizer.eos_token, tokenizer.unk_token = None, None
    assert unknown_token(tokenizer) is None
