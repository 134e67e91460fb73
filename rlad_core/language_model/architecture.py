"""Which models the packed forward passes compute, and which they refuse, by ``config.json`` alone.

Computed: full and sliding-window attention, grouped heads, positions that go by ``position_ids``, scaled
logits (Granite, Cohere), a bias of the LM head (Phi), a tied head, padded rows. What neither this nor
`refusals` knows of is found before the first step, by the comparison with the model's own forward pass
(`rlad_core.language_model.plain_forward`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

CHECKED: Final = frozenset(
    {
        "cohere",
        "gemma",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "granite",
        "llama",
        "mistral",
        "olmo",
        "olmo2",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
        "starcoder2",
    }
)
"""Model types whose log-probs and gradients a test compares with their own forward pass."""

_ATTENDED: Final = {"full_attention", "sliding_attention"}
_RECURRENT: Final = frozenset(
    {
        "bamba",
        "falcon_h1",
        "falcon_mamba",
        "granitemoehybrid",
        "jamba",
        "kimi_linear",
        "lfm2",
        "lfm2_moe",
        "mamba",
        "mamba2",
        "minimax",
        "nemotron_h",
        "olmo_hybrid",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_next",
        "recurrent_gemma",
        "rwkv",
        "xlstm",
        "zamba",
        "zamba2",
    }
)
# Attention of their own, or one that is not told where sequences end.
_OWN_ATTENTION: Final = frozenset(
    {"bloom", "codegen", "ctrl", "dbrx", "falcon", "gpt_neo", "gptj", "mpt", "nemotron", "openai-gpt"}
    | {"stablelm", "xglm"}
)
# Capped in the class's defaults, so that config.json need not say so.
_CAPPED: Final = frozenset({"gemma2", "nanochat", "vaultgemma"})
_SINKS: Final = frozenset({"gpt_oss"})
# Their frequencies depend on the longest sequence of a batch.
_LENGTH_BOUND_ROPE: Final = frozenset({"dynamic", "longrope"})


def refusals(config: Mapping[str, Any], max_length: int | None = None) -> list[str]:
    """Why a model cannot be trained, or scored by the torch engine; empty where nothing speaks against it.

    Args:
        config: a model's config.json.
        max_length: of the longest sequence, where it is known.

    Returns:
        Reasons as ends of a sentence that begins with the model.
    """
    # A model of text and images keeps the part that matters here inside.
    inner = config.get("text_config")
    return list(_reasons({**config, **inner} if isinstance(inner, Mapping) else config, max_length))


def _reasons(config: Mapping[str, Any], max_length: int | None) -> Iterator[str]:
    kind = str(config.get("model_type", ""))
    layers = {str(layer) for layer in config.get("layer_types") or ()}
    if config.get("is_encoder_decoder"):
        yield "has an encoder; take a model that only decodes"
    if quantized := config.get("quantization_config"):
        how = quantized.get("quant_method") if isinstance(quantized, Mapping) else quantized
        yield f"has quantized weights ({how}); take those that it was quantized from"
    if kind in _RECURRENT or layers - _ATTENDED:
        others = ", ".join(sorted(layers - _ATTENDED)) or kind
        yield f"has layers that are no attention over whole prefixes ({others})"
    if kind in _OWN_ATTENTION:
        yield f"computes attention in a way of its own ({kind})"
    if kind in _SINKS:
        yield f"has attention sinks ({kind})"
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(name, kind in _CAPPED or None) is not None:
            yield f"caps its {'attention scores' if name.startswith('attn') else 'logits'} ({name})"
    yield from _bound_rope(config, max_length)


def _bound_rope(config: Mapping[str, Any], max_length: int | None) -> Iterator[str]:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        return
    kind = rope.get("rope_type", rope.get("type"))
    if kind not in _LENGTH_BOUND_ROPE:
        return
    original = rope.get(
        "original_max_position_embeddings",
        config.get("original_max_position_embeddings", config.get("max_position_embeddings")),
    )
    if max_length is None or not isinstance(original, int) or max_length > original:
        yield (
            f"turns positions by the length of the longest sequence beside it (rope type {kind}); it can be "
            f"used up to {original} tokens, below which it does not"
        )
