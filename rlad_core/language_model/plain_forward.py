"""The model's own forward pass, as the measure of a packed one.

A packed pass replaces a model's attention and its head. What it does not know of would give the log-probs of
another model, in silence. So whoever computes packed compares once, before it is used, on a few short
sequences of random tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlad_core.language_model.head import OutputHead

TokenIds = npt.NDArray[np.int32]
Pair = tuple[TokenIds, TokenIds]

TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float64: 1e-6}
"""Largest difference of two log-probs, in nats, that rounding explains; by the precision of the pass."""


class PlainForwardError(ValueError):
    """A packed pass gives other log-probs than the model's own."""


def probe_pairs(tokens: int) -> list[Pair]:
    """Three (prompt, response): two responses to one prompt (one array), and one that comes after another.

    Args:
        tokens: ids are below it.
    """
    first, second, third = np.random.default_rng(0).integers(tokens, size=(3, 6), dtype=np.int32)
    return [(first, second), (first, third), (third, first)]


@torch.no_grad()
def plain_logprobs(model: PreTrainedModel, pairs: Sequence[Pair], tokens: int) -> Tensor:
    """Log-probs of the responses, each from a forward pass of its own with transformers' eager attention.

    Args:
        tokens: rows of the head that are tokens; the others have no part.

    Returns:
        float32 [all response tokens] (float64 of such a model), on the model's device.
    """
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        return torch.cat([_plain(model, prompt, response, tokens) for prompt, response in pairs])
    finally:
        model.set_attn_implementation(attention)


@torch.no_grad()
def unpacked_logprobs(
    model: PreTrainedModel,
    pair: Pair,
    head: OutputHead,
    *,
    chunk_size: int,
    end_token_ids: Sequence[int] = (),
) -> tuple[Tensor, Tensor | None]:
    """Log-probs of one response from a forward pass of its own with transformers' attention, also of a long
    one: logits are made of a few places at a time.

    Args:
        pair: prompt and response.
        head: of the model.
        chunk_size: places whose logits are made at a time.
        end_token_ids: whose probability together is wanted.

    Returns:
        float32 [response tokens], and the same of the end tokens, or None.
    """
    prompt, response = pair
    attention = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    try:
        ids = torch.from_numpy(np.concatenate([prompt, response]).astype(np.int64)).to(model.device)
        hidden = model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
    finally:
        model.set_attn_implementation(attention)
    own, ends = [], []
    for start in range(0, response.size, chunk_size):
        stop = min(start + chunk_size, response.size)
        logprobs = head.plain(hidden[prompt.size - 1 + start : prompt.size - 1 + stop])
        own.append(logprobs.gather(1, ids[prompt.size + start : prompt.size + stop, None])[:, 0])
        if end_token_ids:
            ends.append(logprobs[:, list(end_token_ids)].logsumexp(-1))
    return torch.cat(own), torch.cat(ends) if ends else None


def compare_with_plain(
    packed: Callable[[], Tensor], plain: Callable[[], Tensor], dtype: torch.dtype, model: Any, advice: str
) -> None:
    """Refuse a packed pass that is not the model's own.

    Args:
        packed, plain: compute log-probs of the same tokens.
        dtype: the passes were computed in.
        model: whose they are, for the error.
        advice: what to do, the end of the error's sentence.

    Raises:
        PlainForwardError: they differ by more than rounding, or there is no packed one.
    """
    name = type(model).__name__
    wanted = plain()
    try:
        found = packed()
    except Exception as error:
        raise PlainForwardError(
            f"{name} cannot be computed packed ({type(error).__name__}: {error}); {advice}"
        ) from error
    difference = float((found - wanted).abs().max())
    if not difference <= TOLERANCE[dtype]:
        raise PlainForwardError(
            f"log-probs of {name} differ by {difference:.3g} nats "
            f"between a packed forward pass and its own, and rounding explains {TOLERANCE[dtype]:g}: this "
            f"architecture does more than the packed pass knows of; {advice}"
        )


def _plain(model: PreTrainedModel, prompt: TokenIds, response: TokenIds, tokens: int) -> Tensor:
    # Buffers lie where a model computes; its weights may lie elsewhere while nobody uses them.
    device = next((buffer.device for buffer in model.buffers()), model.device)
    ids = torch.from_numpy(np.concatenate([prompt, response]).astype(np.int64)).to(device)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, prompt.size - 1 : -1, :tokens]
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logprobs: Tensor = wide.log_softmax(-1).gather(1, ids[prompt.size :, None])[:, 0]
    return logprobs
