"""The two tiny Qwen3 configurations and a folder to start training them from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Qwen3Config

from rlad_core.tasks.knights_knaves.tiny.tokenizer import build_tokenizer

MAX_LENGTH = 1024
"""Tokens a tiny model reads. A worked solution for three people takes 200 at most, for four 400."""

# Head size 32 is the smallest that vLLM's CPU attention takes.
_SIZES: dict[str, dict[str, int]] = {
    "student": {
        "hidden_size": 96,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "teacher": {
        "hidden_size": 96,
        "intermediate_size": 288,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
}
TINY_CONFIGS = tuple(_SIZES)
"""What may follow ``tiny:`` in ``policy.model``."""


def tiny_config(size: str, **overrides: Any) -> Qwen3Config:
    """The Qwen3 configuration of a size.

    Args:
        size: one of ``TINY_CONFIGS``.
        overrides: fields of ``Qwen3Config`` to set otherwise.

    Raises:
        ValueError: there is no such size.
    """
    if size not in _SIZES:
        raise ValueError(f"no tiny model is called {size!r}; write one of {', '.join(TINY_CONFIGS)}")
    tokenizer = build_tokenizer(MAX_LENGTH)
    settings: dict[str, Any] = {
        **_SIZES[size],
        # Padded to a multiple of 32, as large models do for speed.
        "vocab_size": -(-len(tokenizer) // 32) * 32,
        "num_key_value_heads": _SIZES[size]["num_attention_heads"] // 2,
        "head_dim": 32,
        "max_position_embeddings": MAX_LENGTH,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "architectures": ["Qwen3ForCausalLM"],
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return Qwen3Config(**{**settings, **overrides})


def write_untrained(size: str, folder: str | Path) -> Path:
    """Write config.json and the tokenizer of a size, no weights (``policy.init: random`` makes them).

    Args:
        size: one of ``TINY_CONFIGS``.
        folder: made if it is missing.

    Returns:
        The folder.

    Raises:
        ValueError: there is no such size.
    """
    folder = Path(folder)
    tiny_config(size).save_pretrained(folder)
    build_tokenizer(MAX_LENGTH).save_pretrained(folder)
    return folder
