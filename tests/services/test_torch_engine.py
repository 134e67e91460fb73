"""The torch engine with models of many kinds, against the forward pass of each."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from model_kinds import KINDS, ROWS, TOKENS, tiny, write
from scoring_cases import TOLERANCE
from transformers import AutoConfig, AutoModelForCausalLM

from rlad_core.client.details import Details
from services.teacher.scoring.interface import Scored, TokenPair
from services.teacher.scoring.torch_engine import TorchEngine


def engine(folder: Path, threads: int = 1) -> TorchEngine:
    # Room for the logits of 4 tokens, so that they come in several chunks.
    return TorchEngine(
        str(folder),
        dtype="float32",
        max_model_len=128,
        logits_memory_bytes=4 * 4 * ROWS,
        threads=threads,
        tokens=TOKENS,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_forward_pass_of_models_of_many_kinds(tmp_path: Path, kind: str) -> None:
    """With a prompt that responses share, windows shorter than the sequences, and padded rows."""
    rng = np.random.default_rng(0)
    prompt, other, *responses = (
        rng.integers(TOKENS, size=size).astype(np.int32) for size in (9, 2, 7, 1, 12, 5)
    )
    asked = Details(top_k=3, entropy=True, end_token_ids=(2, 5), hidden="float32", named_token_ids=2)
    named = [rng.integers(TOKENS, size=(each.size, 2)).astype(np.int32) for each in responses]
    pairs = [
        TokenPair(prompt if place < 3 else other, each, asked, named=ids)
        for place, (each, ids) in enumerate(zip(responses, named, strict=True))
    ]
    torch_engine = engine(write(kind, tmp_path))
    scored = asyncio.run(torch_engine.score(pairs))
    torch_engine.shutdown()
    assert torch_engine.vocab_size == TOKENS

    model = tiny(kind, attention="eager")
    for pair, told in zip(pairs, scored, strict=True):
        ids = torch.from_numpy(np.concatenate([pair.prompt, pair.response]).astype(np.int64))
        with torch.no_grad():
            logits = model(ids[None]).logits[0, pair.prompt.size - 1 : -1, :TOKENS]
            hidden = model.base_model(ids[None]).last_hidden_state[0, pair.prompt.size - 1 : -1]
        wanted = logits.log_softmax(-1).numpy()
        for name, expected in (
            ("teacher_logprobs", wanted[np.arange(pair.response.size), pair.response]),
            ("entropy", -(np.exp(wanted) * wanted).sum(-1)),
            ("named_logprobs", np.take_along_axis(wanted, pair.named, 1)),
            ("hidden_states", hidden.numpy()),
            ("teacher_end_logprobs", np.logaddexp(wanted[:, 2], wanted[:, 5])),
            ("top_logprobs", -np.sort(-wanted, axis=-1)[:, :3]),
        ):
            np.testing.assert_allclose(told.values[name], expected, atol=TOLERANCE, err_msg=name)
        assert told.values["top_token_ids"].max() < TOKENS


@pytest.mark.parametrize("kind", KINDS)
def test_passes_side_by_side_tell_what_each_tells_alone(tmp_path: Path, kind: str) -> None:
    """Among them some of the model's own, with another attention."""
    rng = np.random.default_rng(1)
    prompt = rng.integers(TOKENS, size=9).astype(np.int32)
    batches = [
        [
            TokenPair(prompt, rng.integers(TOKENS, size=size).astype(np.int32), Details(plain=place % 3 == 1))
            for size in (20, 40, place + 1)
        ]
        for place in range(24)
    ]
    several = engine(write(kind, tmp_path), threads=3)
    assert several.batches_in_flight == 4

    async def scenario() -> tuple[list[list[Scored]], list[list[Scored]]]:
        alone = [await several.score(batch) for batch in batches]
        return alone, await asyncio.gather(*map(several.score, batches))

    for one, other in zip(*asyncio.run(scenario()), strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine.values["teacher_logprobs"], theirs.values["teacher_logprobs"])
    several.shutdown()


def test_an_architecture_that_packing_gets_wrong_is_refused(tmp_path: Path) -> None:
    AutoConfig.for_model("gemma2").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"caps its attention scores .* caps its logits .* engine: vllm"):
        engine(tmp_path)


def test_a_model_that_does_more_than_is_known_of_it_is_refused(tmp_path: Path) -> None:
    """Llama 4 answers from another layer than the others, which its config does not say."""
    config = AutoConfig.for_model(
        "llama4_text",
        vocab_size=ROWS,
        hidden_size=32,
        intermediate_size=32,
        intermediate_size_mlp=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_local_experts=2,
        layer_types=["full_attention"],
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be computed packed .*last_hidden_state.*engine: vllm"):
        engine(tmp_path)
