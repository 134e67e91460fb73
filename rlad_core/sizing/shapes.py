"""How large a model is: from its config.json where it is here, else by its name."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rlad_core.config import resolve_model


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama kind (Llama, Qwen2, Qwen3, Mistral): gated MLP, grouped heads.

    Attributes:
        layers: how many.
        width: of the residual stream.
        heads, kv_heads, head: attention heads, those of keys and values, and the width of one.
        mlp: width of the MLP.
        vocabulary: rows of the embedding.
        tied: whether embedding and head are one.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    mlp: int
    vocabulary: int
    tied: bool

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer's products of matrices."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        return self.width * (2 * queries + 2 * keys + 3 * self.mlp)

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding; the head has as many."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All weights, norms and biases left out."""
        ends = self.embedding_parameters * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + ends

    @property
    def pair_cost(self) -> float:
        """What the attention of a token to one before it costs, beside a token's products with the layers.

        A pair takes 4 operations for each number of a layer's heads (score and sum), a token 2 for each
        weight, and a sequence of L tokens has L^2 / 2 pairs: the unit is that of L^2. For Qwen3-0.6B
        it is 1 / 7,680: at so many tokens attention costs as much as all else.
        """
        return self.heads * self.head / self.layer_parameters

    def kv_bytes(self, bytes_per_value: int) -> int:
        """Bytes of one token's keys and values in all layers."""
        return 2 * self.layers * self.kv_heads * self.head * bytes_per_value


# From the config.json of each on the hub.
_QWEN3: Final = {
    "0.6B": Shape(28, 1024, 16, 8, 128, 3072, 151_936, tied=True),
    "1.7B": Shape(28, 2048, 16, 8, 128, 6144, 151_936, tied=True),
    "4B": Shape(36, 2560, 32, 8, 128, 9728, 151_936, tied=True),
    "8B": Shape(36, 4096, 32, 8, 128, 12_288, 151_936, tied=False),
    "14B": Shape(40, 5120, 40, 8, 128, 17_408, 151_936, tied=False),
    "32B": Shape(64, 5120, 64, 8, 128, 25_600, 151_936, tied=False),
}
_QWEN25: Final = {
    "0.5B": Shape(24, 896, 14, 2, 64, 4864, 151_936, tied=True),
    "1.5B": Shape(28, 1536, 12, 2, 128, 8960, 151_936, tied=True),
    "3B": Shape(36, 2048, 16, 2, 128, 11_008, 151_936, tied=True),
    "7B": Shape(28, 3584, 28, 4, 128, 18_944, 152_064, tied=False),
    "14B": Shape(48, 5120, 40, 8, 128, 13_824, 152_064, tied=False),
    "32B": Shape(64, 5120, 40, 8, 128, 27_648, 152_064, tied=False),
    "72B": Shape(80, 8192, 64, 8, 128, 29_568, 152_064, tied=False),
}
_MATH: Final = ("1.5B", "7B", "72B")
_DISTILLED: Final = ("7B", "14B", "32B")
_KNOWN: Final = {
    **{f"Qwen/Qwen3-{size}": shape for size, shape in _QWEN3.items()},
    **{f"Qwen/Qwen3-{size}-Base": shape for size, shape in _QWEN3.items() if size != "32B"},
    **{f"Qwen/Qwen2.5-{size}{kind}": _QWEN25[size] for size in _QWEN25 for kind in ("", "-Instruct")},
    **{f"Qwen/Qwen2.5-Math-{size}{kind}": _QWEN25[size] for size in _MATH for kind in ("", "-Instruct")},
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": replace(_QWEN25["1.5B"], tied=False),
    **{f"deepseek-ai/DeepSeek-R1-Distill-Qwen-{size}": _QWEN25[size] for size in _DISTILLED},
}


def shape_of(reference: str) -> Shape | None:
    """The shape of a recipe's model; None where it is not here and its name says nothing.

    Args:
        reference: as in a recipe, see `resolve_model`.
    """
    if reference in _KNOWN:
        return _KNOWN[reference]
    try:
        config: Any = json.loads((Path(resolve_model(reference)) / "config.json").read_text("utf-8"))
        return _of(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def pair_cost_of(reference: str) -> float:
    """`Shape.pair_cost` of a recipe's model; 0, that is, by tokens alone, where its shape isn't known."""
    shape = shape_of(reference)
    return 0.0 if shape is None else shape.pair_cost


def _of(config: dict[str, Any]) -> Shape:
    heads = config["num_attention_heads"]
    shape = Shape(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head=config.get("head_dim") or config["hidden_size"] // heads,
        mlp=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", True)),
    )
    if not all(isinstance(value, int) for value in vars(shape).values()):
        raise TypeError("sizes that differ from layer to layer")
    return shape
