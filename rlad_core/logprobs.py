"""Log-probs and entropy of tokens from hidden states and the LM head, without ever holding all logits.

T tokens times V vocabulary entries in float32 are 2.5 GB for 4,096 tokens of Qwen3, several times over in a
naive backward. Here both directions go chunk by chunk through one buffer of chunk_size x V; backward
computes the logits again, from the saved hidden states and the saved log-normaliser.

With p = softmax(z), l = log p[target] and H = -sum(p log p):

    dl/dz = onehot(target) - p        dH/dz = -p * (log p + H)
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def token_logprobs(
    hidden: Tensor,
    lm_head_weight: Tensor,
    targets: Tensor,
    *,
    chunk_size: int = 1024,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Log-probs of the targets, and the entropy of the distributions they were drawn from.

    Logits are float32 also for bfloat16 inputs, and the LM head's gradient is summed in float32. Both
    results are differentiable with respect to ``hidden`` and ``lm_head_weight``. A float64 input gives
    float64 throughout.

    Args:
        hidden: [T, D] hidden states that predict the targets (already shifted, after the final norm).
        lm_head_weight: [V, D], an ordinary tensor (not a sharded one), kept until backward is done.
        targets: [T] token ids, 0..V-1.
        chunk_size: tokens whose logits are held at once.
        with_entropy: compute the entropy, which takes a second buffer.

    Returns:
        ``(log-probs float32 [T], entropy float32 [T] in nats, or None)``.

    Raises:
        ValueError: shapes don't fit.
    """
    if hidden.ndim != 2 or lm_head_weight.ndim != 2 or hidden.shape[1] != lm_head_weight.shape[1]:
        raise ValueError(
            f"hidden has shape {tuple(hidden.shape)} and lm_head_weight {tuple(lm_head_weight.shape)}; "
            "they must be [T, D] and [V, D]"
        )
    if targets.shape != hidden.shape[:1]:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}, but hidden holds {hidden.shape[0]} tokens; "
            "give one target each"
        )
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; it must be at least 1")
    logprobs, entropy = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, lm_head_weight, targets.long(), chunk_size, with_entropy
    )
    return logprobs, entropy


@torch.no_grad()
def top_logprobs(
    hidden: Tensor, lm_head_weight: Tensor, k: int, *, chunk_size: int = 1024
) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens at each place and their log-probs, likeliest first. Not differentiable.

    Args:
        hidden: [T, D], as in `token_logprobs`.
        lm_head_weight: [V, D].
        k: 1..V.
        chunk_size: tokens whose logits are held at once.

    Returns:
        ``(token ids int64 [T, k], log-probs float32 [T, k])``; float64 for float64 inputs.

    Raises:
        ValueError: k is not in 1..V.
    """
    if not 1 <= k <= (entries := lm_head_weight.shape[0]):
        raise ValueError(f"k is {k}; it must be in 1..{entries}, the size of the vocabulary")
    tokens = hidden.shape[0]
    head, dtype = _operand(hidden, lm_head_weight)
    buffer = hidden.new_empty(min(chunk_size, tokens), entries, dtype=dtype)
    ids = torch.empty(tokens, k, dtype=torch.long, device=hidden.device)
    logprobs = hidden.new_empty(tokens, k, dtype=dtype)
    for start in range(0, tokens, chunk_size):
        rows = slice(start, min(start + chunk_size, tokens))
        logits = _multiply(hidden[rows].to(head.dtype), head.t(), buffer)
        highest, ids[rows] = logits.topk(k, dim=1)
        logprobs[rows] = highest - logits.logsumexp(dim=1, keepdim=True)
    return ids, logprobs


class _TokenLogprobs(torch.autograd.Function):
    """``token_logprobs`` with a backward that computes the logits again."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk_size: int, with_entropy: bool
    ) -> tuple[Tensor, Tensor | None]:
        tokens = hidden.shape[0]
        head, dtype = _operand(hidden, weight)
        logprobs = hidden.new_empty(tokens, dtype=dtype)
        normaliser = torch.empty_like(logprobs)
        entropy = torch.empty_like(logprobs) if with_entropy else None
        buffer = hidden.new_empty(min(chunk_size, tokens), weight.shape[0], dtype=dtype)
        second = torch.empty_like(buffer) if with_entropy else buffer

        for start in range(0, tokens, chunk_size):
            rows = slice(start, min(start + chunk_size, tokens))
            logits = _multiply(hidden[rows].to(head.dtype), head.t(), buffer)
            target_logits = logits.gather(1, targets[rows, None]).squeeze(1)
            highest = logits.amax(dim=1)
            # Shifting by the maximum keeps the exponentials finite; in place, as `torch.logsumexp` isn't.
            logits.sub_(highest[:, None])
            if entropy is None:
                log_sum = logits.exp_().sum(dim=1).log_()
            else:
                exponentials = torch.exp(logits, out=second[: logits.shape[0]])
                total = exponentials.sum(dim=1)
                log_sum = total.log()
                entropy[rows] = log_sum - exponentials.mul_(logits).sum(dim=1).div_(total)
            normaliser[rows] = highest.add_(log_sum)
            logprobs[rows] = target_logits.sub_(normaliser[rows])

        ctx.save_for_backward(hidden, weight, targets, normaliser, entropy)
        ctx.chunk_size = chunk_size
        ctx.set_materialize_grads(False)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_logprobs: Tensor | None, grad_entropy: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if grad_logprobs is None and grad_entropy is None:
            return None, None, None, None, None
        hidden, weight, targets, normaliser, entropy = ctx.saved_tensors
        tokens = hidden.shape[0]
        head, dtype = _operand(hidden, weight)
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=dtype) if ctx.needs_input_grad[1] else None
        buffer = hidden.new_empty(min(ctx.chunk_size, tokens), weight.shape[0], dtype=dtype)
        second = buffer if grad_entropy is None else torch.empty_like(buffer)

        for start in range(0, tokens, ctx.chunk_size):
            rows = slice(start, min(start + ctx.chunk_size, tokens))
            states = hidden[rows].to(head.dtype)
            logprobs = _multiply(states, head.t(), buffer).sub_(normaliser[rows, None])
            grad_logits = torch.exp(logprobs, out=second[: logprobs.shape[0]])
            if grad_entropy is not None:
                # -p * (g_H * (log p + H) + g_l); g_l is the gradient of the log-prob.
                logprobs.add_(entropy[rows, None]).mul_(grad_entropy[rows, None])
                if grad_logprobs is not None:
                    logprobs.add_(grad_logprobs[rows, None])
                grad_logits.mul_(logprobs.neg_())
            elif grad_logprobs is not None:
                grad_logits.mul_(-grad_logprobs[rows, None])
            if grad_logprobs is not None:
                grad_logits.scatter_add_(1, targets[rows, None], grad_logprobs[rows, None])

            grad_logits = grad_logits.to(head.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = torch.mm(grad_logits, head).to(hidden.dtype)
            if grad_weight is None:
                continue
            if head.dtype == dtype:
                grad_weight.addmm_(grad_logits.t(), states)
            else:
                grad_weight += torch.mm(grad_logits.t(), states, out_dtype=dtype)

        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None


def _operand(hidden: Tensor, weight: Tensor) -> tuple[Tensor, torch.dtype]:
    """The LM head as it enters the products, and the precision of what comes out.

    On a GPU half-precision factors stay as they are: its tensor cores sum in float32 and can hand that out.
    Elsewhere they are widened once.
    """
    dtype = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
    if weight.is_cuda and hidden.dtype == weight.dtype and weight.dtype in (torch.bfloat16, torch.float16):
        return weight, dtype
    return weight.to(dtype), dtype


def _multiply(left: Tensor, right: Tensor, buffer: Tensor) -> Tensor:
    """``left @ right`` in the buffer's precision, written to its first rows."""
    out = buffer[: left.shape[0]]
    if left.dtype == out.dtype:
        return torch.mm(left, right, out=out)
    return torch.mm(left, right, out_dtype=out.dtype, out=out)
