"""Logits of hidden states by an LM head, in a buffer that is there: a chunk of places at a time, never all.

Rows of the head that are no tokens (`rlad_core.language_model.vocabulary`) take part in the products, whose
kernels like round sizes, and in nothing else: what follows reads a view of the buffer without them, as if
their logits were minus infinity.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


def chunks_of_logits(
    hidden: Tensor,
    lm_head_weight: Tensor,
    *,
    bias: Tensor | None,
    scale: float,
    tokens: int | None,
    chunk_size: int,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The logits of all places, a chunk at a time, in one buffer for all chunks. Not differentiable.

    Args:
        hidden: [T, D], as all others as in `rlad_core.logprobs.token_logprobs`.
        lm_head_weight: [V, D].

    Yields:
        Which places, their logits [places, tokens], and a buffer of the same shape to work in.

    Raises:
        ValueError: see `checked_tokens`.
    """
    places, entries = hidden.shape[0], checked_tokens(tokens, lm_head_weight)
    head, dtype = operand(hidden, lm_head_weight)
    buffer = hidden.new_empty(min(chunk_size, places), lm_head_weight.shape[0], dtype=dtype)
    second = torch.empty_like(buffer)
    for start in range(0, places, chunk_size):
        rows = slice(start, min(start + chunk_size, places))
        logits = logits_of(hidden[rows].to(head.dtype), head, bias, scale, buffer)[:, :entries]
        yield rows, logits, second[: logits.shape[0], :entries]


def checked_tokens(tokens: int | None, weight: Tensor) -> int:
    """How many rows of the head are tokens; all of them where nothing is said.

    Raises:
        ValueError: more than it has, or none.
    """
    rows = int(weight.shape[0])
    if tokens is not None and not 1 <= tokens <= rows:
        raise ValueError(f"tokens is {tokens}; it must be in 1..{rows}, the rows of the head")
    return rows if tokens is None else tokens


def operand(hidden: Tensor, weight: Tensor) -> tuple[Tensor, torch.dtype]:
    """The LM head as it enters the products, and the precision of what comes out.

    A head that is wider than the hidden states is narrowed to them; its gradient is not. On a GPU
    half-precision factors stay as they are: its tensor cores sum in float32 and can hand that out. Elsewhere
    they are widened once.
    """
    dtype = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
    if hidden.dtype in (torch.bfloat16, torch.float16):
        weight = weight.to(hidden.dtype)
    if weight.is_cuda and hidden.dtype == weight.dtype and weight.dtype in (torch.bfloat16, torch.float16):
        return weight, dtype
    return weight.to(dtype), dtype


def logits_of(states: Tensor, head: Tensor, bias: Tensor | None, scale: float, buffer: Tensor) -> Tensor:
    """Logits of all rows of the head, in the buffer's precision, written to its first rows.

    Args:
        states: [places, D] in the precision of `head`.
        head: [V, D], see `operand`.
        bias: [V].
        buffer: [at least places, V].

    Returns:
        [places, V], a view of the buffer.
    """
    out = buffer[: states.shape[0]]
    if states.dtype == out.dtype:
        torch.mm(states, head.t(), out=out)
    else:
        torch.mm(states, head.t(), out_dtype=out.dtype, out=out)
    if bias is not None:
        out.add_(bias)
    return out.mul_(scale) if scale != 1.0 else out
