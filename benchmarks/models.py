"""Models of random weights that benchmarks train, their tokenizer, and the lengths of what they train on.

Times depend on sizes alone. How long sampled responses get is decided by the head: all embeddings have one
large part in common, which outweighs the rest of the hidden state, and an end token's share of that part
sets the probability with which each place ends a response. So any engine samples lengths of one distribution
from such a folder, without being told.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rlad_core.config import resolve_model
from rlad_core.sizing import Shape

SHAPES: dict[str, Shape] = {
    "student": Shape(4, 96, 4, 2, 32, 96, 224, tied=True),
    "14m": Shape(8, 384, 6, 2, 64, 1024, 512, tied=True),
    "32k": Shape(4, 256, 4, 2, 64, 768, 32_768, tied=True),
    "0.6b": Shape(28, 1024, 16, 8, 128, 3072, 151_936, tied=True),
    "1.7b": Shape(28, 2048, 16, 8, 128, 6144, 151_936, tied=True),
}
_COMMON = 10.0
"""Length of the common part; what the layers add is about 1."""


def config_of(shape: str) -> Qwen3Config:
    """A Qwen3 of that shape, tied."""
    of = SHAPES[shape]
    return Qwen3Config(
        num_hidden_layers=of.layers, hidden_size=of.width, num_attention_heads=of.heads,
        num_key_value_heads=of.kv_heads, head_dim=of.head, intermediate_size=of.mlp, vocab_size=of.vocabulary,
        max_position_embeddings=65_536, tie_word_embeddings=of.tied, architectures=["Qwen3ForCausalLM"],
    )  # fmt: skip


def tokenizer_of(shape: str) -> PreTrainedTokenizerFast:
    """The shipped student's, with further words (t214, t215, ...) up to a token for each row of the model.

    A run takes what its tokenizer has for the vocabulary, others take the model's rows; so both are the same,
    and prompts are the tokens that they are for the student.
    """
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("rlad:kk-student"))
    further = range(len(tokenizer), SHAPES[shape].vocabulary)
    words = tokenizer.get_vocab() | {f"t{index}": index for index in further}
    tokenizer.backend_tokenizer.model = WordLevel(words, unk_token=tokenizer.unk_token)
    return tokenizer


def response_lengths(kind: str, count: int) -> np.ndarray:
    """Tokens of each response: short (90 +- 15), long-tailed (median 300, at most 1,024), or a number."""
    generator = np.random.default_rng(1)
    if kind == "short":
        return np.clip(generator.normal(90, 15, count), 10, 200).astype(np.int64)
    if kind == "long-tailed":
        return np.clip(300 * np.exp(0.7 * generator.standard_normal(count)), 10, 1024).astype(np.int64)
    return np.full(count, int(kind), dtype=np.int64)


def _end(model: Qwen3ForCausalLM, token: int, probability: float, common: torch.Tensor) -> None:
    """Give the end token a part of `common`, [width], with which it has that probability at any place."""
    weight = model.get_input_embeddings().weight
    places = torch.randint(len(weight), (4, 64))
    # The final norm gives the hidden state a length of sqrt(width), nearly all of it along `common`. How much
    # is missing depends on the layers: each round leaves a tenth of what the one before left, or less.
    for _ in range(3):
        found = model(places).logits.double().softmax(dim=-1)[..., token].mean()
        weight[token] += math.log(probability / found) / math.sqrt(len(common)) * common


def write_sampler(shape: str, folder: Path, median: int | None) -> None:
    """A model of that shape with its tokenizer.

    Args:
        median: of the lengths that it samples, which are geometrically distributed; None: it never ends.
    """
    tokenizer = tokenizer_of(shape)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config_of(shape))
    rows, width = model.get_input_embeddings().weight.shape
    common = torch.full((width,), 1 / math.sqrt(width))
    share = torch.full((rows,), _COMMON)
    if median is None:
        share[tokenizer.eos_token_id] = -_COMMON
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight -= weight @ common[:, None] * common
        weight += share[:, None] * common
        if median is not None:
            _end(model, tokenizer.eos_token_id, -math.expm1(math.log(0.5) / median), common)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
