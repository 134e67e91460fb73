"""Tiny random models of the kinds that people have, with padded rows, windows, scaled logits and biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

ROWS, TOKENS = 64, 51
"""Of each head, and those of them that are tokens."""

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
_WINDOW = ["sliding_attention", "full_attention"]

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen2 with a window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "layer_types": _WINDOW},
    ),
    "qwen3": ("qwen3", {}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral with a window": ("mistral", {"sliding_window": 5}),
    "gemma": ("gemma", {}),
    "gemma3_text": ("gemma3_text", {"sliding_window": 5, "layer_types": _WINDOW}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    "gpt2 with scores by layer": (
        "gpt2",
        {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 128,
            "scale_attn_by_inverse_layer_idx": True,
        },
    ),
    "gpt_neox": ("gpt_neox", {}),
    "phi, whose head has a bias": ("phi", {"num_key_value_heads": 4}),
    "phi3 with a window": ("phi3", {"sliding_window": 5}),
    "granite, which divides logits": (
        "granite",
        {"logits_scaling": 3.0, "residual_multiplier": 0.5, "embedding_multiplier": 6.0},
    ),
    "cohere, which scales logits": ("cohere", {"logit_scale": 0.3}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "smollm3": ("smollm3", {}),
    "starcoder2": ("starcoder2", {}),
}


def tiny(kind: str, *, attention: str, dtype: torch.dtype = torch.float64, **changes: Any) -> PreTrainedModel:
    """A model of a kind, for inference; the same weights for the same kind, none of them zero."""
    model_type, own = KINDS[kind]
    sizes = {} if "n_embd" in own else _SIZES
    config = AutoConfig.for_model(
        model_type,
        **{
            "vocab_size": ROWS,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
            **sizes,
            **own,
            **changes,
        },
    )
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float64, attn_implementation=attention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model.to(dtype).eval()


def write(kind: str, folder: Path) -> Path:
    """A folder with such a model in float32, without tokenizer."""
    tiny(kind, attention="eager", dtype=torch.float32).save_pretrained(folder)
    return folder
