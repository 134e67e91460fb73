"""The section `learner.lora`: adapters of low rank are trained, and the model's own weights stay."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from rlad_core.sections.base import Section
from rlad_core.sections.resume import Fixed

MOST_RANK: Final = 512
"""Of an adapter that vLLM takes."""
ENDS_WITHOUT_ADAPTERS: Final = frozenset({"embed_tokens", "lm_head", "wte", "embed_in", "embed_out"})
"""Names of embeddings and heads."""


class LoraConfig(Section):
    """LoRA (Hu et al., arXiv 2106.09685), by peft (the extra 'lora').

    The run leaves the whole model in ``export/`` and the adapters alone, as peft and vLLM load them, in
    ``adapter/``.
    """

    rank: Fixed[PositiveInt] = Field(default=32, description="Of the adapters.")
    alpha: Fixed[PositiveFloat] = Field(
        default=64.0, description="An adapter's product counts alpha / rank times."
    )
    modules: Fixed[tuple[str, ...]] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        strict=False,
        min_length=1,
        description="Names of the linear layers that get one.",
    )
    publish: Fixed[Literal["merged", "adapter"]] = Field(
        default="merged",
        description="What engines get. merged: the whole model with the adapters in it; adapter: the "
        "adapters alone, which vLLM applies beside the model.",
    )
