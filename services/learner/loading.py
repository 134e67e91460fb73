"""The policy as the learner trains it: loaded whole, compared with its own forward pass before training."""

from __future__ import annotations

import torch
from torch import nn

from rlad_core.batching import pack
from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.language_model.loading import load_causal_lm
from rlad_core.language_model.plain_forward import compare_with_plain, probe_pairs
from rlad_core.language_model.vocabulary import token_rows
from services.base.tokenizer import load_tokenizer

_ADVICE = "take another policy"


def load_policy(folder: str, device: torch.device, max_length: int) -> ResponseLogprobs:
    """The model with float32 weights, in training mode.

    Args:
        folder: in Hugging Face layout, or a hub id.
        device: where it is computed.
        max_length: tokens of the longest sequence.

    Raises:
        ValueError: its architecture is refused, or its weights are not whole.
        PlainForwardError: packed sequences would give other log-probs than the model's own forward pass.
    """
    model = load_causal_lm(
        folder, dtype=torch.float32, attention=PACKED_ATTENTION, max_length=max_length, advice=_ADVICE
    )
    rows = int(model.get_output_embeddings().weight.shape[0])
    module = ResponseLogprobs(model.to(device), tokens=token_rows(load_tokenizer(folder).get_vocab(), rows))
    pairs = probe_pairs(module.head.tokens)
    with torch.no_grad():
        compare_with_plain(
            lambda: module(pack(pairs).to(device))[0],
            lambda: module.plain(pairs),
            torch.float32,
            model,
            _ADVICE,
        )
    # Recomputing activations asks for training mode, and dropout would make another policy of every pass.
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return module.train()
