"""Responses laid end to end in one stream of tokens, those of one prompt behind a single copy of it.

    tokens     prompt 1 | response 1a | response 1b | prompt 2 | response 2a | ...
    positions  0 .. P-1 | P ..        | P ..        | 0 ..     | ...
    attends    itself   | prompt 1 and itself       | itself   | ...

All layers but attention work on the stream as it is, with no padding and no prompt twice; attention is done
span by span (`attend`). A response's last token predicts nothing that is asked for, so it is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.bias import CausalBias, causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from rlad_core.attention import windowed
from rlad_core.forward import refuse_other_attention
from services.teacher.scoring.interface import TokenPair

ATTENTION = "rlad_shared_prompts"
"""Name under which transformers knows `attend`."""


@dataclass(frozen=True)
class Span:
    """Tokens start..stop-1 of the stream: causal among themselves, and open to all of the prefix.

    Args:
        prefix: where the prompt that they continue stands, None for the prompt itself.
    """

    start: int
    stop: int
    prefix: tuple[int, int] | None = None


@dataclass(frozen=True)
class Packed:
    """A packed batch of T stream tokens and R response tokens.

    Args:
        input_ids: int64 [T].
        position_ids: int64 [T].
        spans: they cover the stream.
        predictor_index: int64 [R], the stream position whose hidden state predicts each response token.
        targets: int64 [R], the response tokens, in the order of the batch.
    """

    input_ids: Tensor
    position_ids: Tensor
    spans: tuple[Span, ...]
    predictor_index: Tensor
    targets: Tensor


def pack_sharing_prompts(batch: Sequence[TokenPair]) -> Packed:
    """Pack a batch; neighbours whose prompt is one object share it."""
    tokens, positions, predictors, spans = [], [], [], list[Span]()
    end = 0
    for prompt, responses in _by_prompt(batch):
        first, last = end, end + prompt.size - 1
        tokens.append(prompt)
        positions.append(np.arange(prompt.size))
        spans.append(Span(first, last + 1))
        end = last + 1
        for response in responses:
            inputs = response.size - 1
            predictors.append(np.append(last, np.arange(end, end + inputs)))
            if inputs:
                tokens.append(response[:-1])
                positions.append(np.arange(prompt.size, prompt.size + inputs))
                spans.append(Span(end, end + inputs, prefix=(first, last + 1)))
                end += inputs
    return Packed(
        input_ids=_integers(tokens),
        position_ids=_integers(positions),
        spans=tuple(spans),
        predictor_index=_integers(predictors),
        targets=_integers([pair.response for pair in batch]),
    )


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    spans: Sequence[Span],
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over a packed stream, in the form transformers calls it.

    Args:
        query: [1, heads, T, head size]; key, value: [1, key-value heads, T, head size].
        spans: of the `Packed`, passed through the model's forward.
        sliding_window: a token sees so many tokens, itself and those right before it; None: all before it.

    Returns:
        [1, T, heads, head size], and None for the weights.

    Raises:
        NotImplementedError: the model's attention has capped scores or sinks.
    """
    del attention_mask
    refuse_other_attention(module, softcap, s_aux)
    out = query.new_empty((*query.shape[:-1], value.shape[-1]))
    for span in spans:
        rows = slice(span.start, span.stop)
        q, k, v = query[:, :, rows], key[:, :, rows], value[:, :, rows]
        if span.prefix is None:
            mask: Tensor | CausalBias | None = None
        else:
            prefix = slice(*span.prefix)
            k = torch.cat([key[:, :, prefix], k], dim=2)
            v = torch.cat([value[:, :, prefix], v], dim=2)
            # Query i sees the prefix and the keys 0..i of its own span.
            mask = causal_lower_right(q.shape[2], k.shape[2])
        if sliding_window is not None and k.shape[2] > sliding_window:
            mask = windowed(q.shape[2], k.shape[2], sliding_window, q.device)
        out[:, :, rows] = scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
    return out.transpose(1, 2), None


AttentionInterface.register(ATTENTION, attend)


def _by_prompt(batch: Sequence[TokenPair]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    for _, pairs in groupby(batch, key=lambda pair: id(pair.prompt)):
        group = list(pairs)
        yield group[0].prompt, [pair.response for pair in group]


def _integers(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))
