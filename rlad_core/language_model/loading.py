"""A causal LM from a folder or the hub, for a packed forward pass: whole, and of a kind that it computes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from rlad_core.language_model.architecture import refusals


def load_causal_lm(
    model: str, *, dtype: torch.dtype, attention: str, max_length: int, advice: str
) -> PreTrainedModel:
    """Load a model for inference: without dropout, which would make its log-probs those of no policy.

    Args:
        model: folder or hub id.
        dtype: of its weights.
        attention: its ``attn_implementation``, registered with transformers.
        max_length: tokens of the longest sequence.
        advice: what to do with a model that is refused, the end of the error's sentence.

    Raises:
        ValueError: its architecture is refused, or the weights of a layer are missing.
    """
    if reasons := refusals(AutoConfig.from_pretrained(model).to_dict(), max_length):
        raise ValueError(f"{model} {'; it '.join(reasons)}; {advice}")
    loaded: Any
    loaded, info = AutoModelForCausalLM.from_pretrained(
        model, dtype=dtype, attn_implementation=attention, output_loading_info=True
    )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"the weights in {model} lack {len(missing)} of the parameters of {type(loaded).__name__}, first "
            f"{missing[0]}: they would be random. Is it a causal language model, and its folder whole?"
        )
    return loaded.eval()
