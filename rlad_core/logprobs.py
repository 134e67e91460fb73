"""Log-probs and entropy of tokens from hidden states and the LM head, without ever holding all logits.

T tokens times V vocabulary entries in float32 are 2.5 GB for 4,096 tokens of Qwen3, several times over in a
naive backward. Here both directions go chunk by chunk through one buffer of chunk_size x V; backward
computes the logits again, from the saved hidden states and the saved log-normaliser.

With p = softmax(z), l = log p[target] and H = -sum(p log p):

    dl/dz = onehot(target) - p        dH/dz = -p * (log p + H)

Of all tokens but some, with R their probability together and o = 1 for one of them and 0 for the others:

    d(log R)/dz = o * p / R - p

R is summed of the others themselves. What the some leave of 1 has no digits in float32 below 1e-6, and where
a policy is sure the others' gradient hangs on them.
"""

from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlad_core.logits import checked_tokens, logits_of, operand

LEAST_LOG_REST: Final = -80.0
"""log R below which the gradient of log R fades out: 1 / R, times a gradient, stays a float32."""


class Beside(Protocol):
    """What is computed of logits that are there for another's sake."""

    def see(self, rows: slice, logits: Tensor) -> Tensor | None:
        """The logits of some places [places, tokens], which are not to be changed."""

    def close(self, seen: Tensor | None, normaliser: Tensor) -> None:
        """Their logsumexp [places], with what `see` gave back."""


def token_logprobs(
    hidden: Tensor,
    lm_head_weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    tokens: int | None = None,
    chunk_size: int = 1024,
    with_entropy: bool = False,
    rest_of: Tensor | None = None,
    beside: Beside | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Log-probs of the targets, and the entropy of the distributions they were drawn from.

    Logits are ``scale * (hidden @ lm_head_weight.T + bias)``, in float32 also for bfloat16 inputs, and the
    LM head's gradient is summed in float32. Both results are differentiable with respect to ``hidden``,
    ``lm_head_weight`` and ``bias``. A float64 input gives float64 throughout.

    Args:
        hidden: [T, D] hidden states that predict the targets (already shifted, after the final norm).
        lm_head_weight: [V, D], an ordinary tensor (not a sharded one), kept until backward is done.
        targets: [T] token ids, 0..tokens-1; or [T, n], several for each place, also one twice.
        bias: [V], of the head.
        scale: of the logits.
        tokens: the first so many rows of the head are tokens, and the others have probability 0; None: all.
        chunk_size: hidden states whose logits are held at once.
        with_entropy: compute the entropy, which takes a second buffer.
        rest_of: [T, m] token ids, also one twice, with targets [T, n]: log-probs get one more column, of all
            other tokens together. It is -inf where there is none, or none within e^-87 of the likeliest.
        beside: sees the logits of each chunk, without gradient.

    Returns:
        ``(log-probs float32 in the shape of targets, or [T, n + 1], entropy float32 [T] in nats, or None)``.

    Raises:
        ValueError: shapes don't fit.
    """
    if hidden.ndim != 2 or lm_head_weight.ndim != 2 or hidden.shape[1] != lm_head_weight.shape[1]:
        raise ValueError(
            f"hidden has shape {tuple(hidden.shape)} and lm_head_weight {tuple(lm_head_weight.shape)}; "
            "they must be [T, D] and [V, D]"
        )
    if targets.ndim not in (1, 2) or targets.shape[:1] != hidden.shape[:1]:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}, but hidden holds {hidden.shape[0]} tokens; "
            "give one target each, or several"
        )
    if rest_of is not None and (rest_of.ndim != 2 or targets.ndim != 2 or len(rest_of) != len(targets)):
        raise ValueError(
            f"rest_of has shape {tuple(rest_of.shape)} and targets {tuple(targets.shape)}; they must be "
            "[T, m] and [T, n]"
        )
    if bias is not None and bias.shape != lm_head_weight.shape[:1]:
        raise ValueError(
            f"bias has shape {tuple(bias.shape)}, and the head {lm_head_weight.shape[0]} rows; give one each"
        )
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; it must be at least 1")
    found: tuple[Tensor, Tensor | None] = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden,
        lm_head_weight,
        bias,
        targets.long(),
        None if rest_of is None else rest_of.long(),
        scale,
        checked_tokens(tokens, lm_head_weight),
        chunk_size,
        with_entropy,
        beside,
    )
    return found


class _TokenLogprobs(torch.autograd.Function):
    """``token_logprobs`` with a backward that computes the logits again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rest_of: Tensor | None,
        scale: float,
        entries: int,
        chunk_size: int,
        with_entropy: bool,
        beside: Beside | None,
    ) -> tuple[Tensor, Tensor | None]:
        places = hidden.shape[0]
        head, dtype = operand(hidden, weight)
        # Of the caller's shape, and no view of another: FSDP warns of a module's output that is one.
        shape = targets.shape if rest_of is None else (places, targets.shape[1] + 1)
        logprobs = hidden.new_empty(shape, dtype=dtype)
        targets = _by_place(targets)
        of_targets = _by_place(logprobs)[:, : targets.shape[1]]
        normaliser = hidden.new_empty(places, dtype=dtype)
        entropy = torch.empty_like(normaliser) if with_entropy else None
        buffer = hidden.new_empty(min(chunk_size, places), weight.shape[0], dtype=dtype)
        second = torch.empty_like(buffer) if with_entropy else buffer

        for start in range(0, places, chunk_size):
            rows = slice(start, min(start + chunk_size, places))
            logits = logits_of(hidden[rows].to(head.dtype), head, bias, scale, buffer)[:, :entries]
            target_logits = logits.gather(1, targets[rows])
            seen = None if beside is None else beside.see(rows, logits)
            highest = logits.amax(dim=1)
            # Shifting by the maximum keeps the exponentials finite; in place, as `torch.logsumexp` isn't.
            logits.sub_(highest[:, None])
            if entropy is None:
                log_sum = logits.exp_().sum(dim=1).log_()
            else:
                exponentials = torch.exp(logits, out=second[: logits.shape[0], :entries])
                total = exponentials.sum(dim=1)
                log_sum = total.log()
                entropy[rows] = log_sum - exponentials.mul_(logits).sum(dim=1).div_(total)
            if rest_of is not None:  # what lies in the buffer is no longer wanted
                exponentials = logits if entropy is None else torch.exp(logits, out=logits)
                others = exponentials.scatter_(1, rest_of[rows], 0.0).sum(dim=1)
                logprobs[rows, -1] = others.log_().sub_(log_sum)
            normaliser[rows] = highest.add_(log_sum)
            if beside is not None:
                beside.close(seen, normaliser[rows])
            of_targets[rows] = target_logits.sub_(normaliser[rows, None])

        of_rest = None if rest_of is None else logprobs[:, -1].clone()
        ctx.save_for_backward(hidden, weight, bias, targets, rest_of, of_rest, normaliser, entropy)
        ctx.scale, ctx.entries, ctx.chunk_size = scale, entries, chunk_size
        ctx.set_materialize_grads(False)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_logprobs: Tensor | None, grad_entropy: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None, None, None, None, None]:
        none = (None,) * 7  # targets and settings
        if grad_logprobs is None and grad_entropy is None:
            return None, None, None, *none
        hidden, weight, bias, targets, rest_of, of_rest, normaliser, entropy = ctx.saved_tensors
        places, entries = hidden.shape[0], ctx.entries
        head, dtype = operand(hidden, weight)
        # A log-prob has -p in its gradient, so each place has it as often as it has log-probs.
        grad_logprobs = None if grad_logprobs is None else _by_place(grad_logprobs)
        grad_places = None if grad_logprobs is None else grad_logprobs.sum(dim=1)
        of_others = None  # g_R / R
        if grad_logprobs is not None and rest_of is not None:
            of_others = grad_logprobs[:, -1] * of_rest.clamp(min=LEAST_LOG_REST).neg_().exp_()
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=dtype) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias, dtype=dtype) if ctx.needs_input_grad[2] else None
        buffer = hidden.new_empty(min(ctx.chunk_size, places), weight.shape[0], dtype=dtype)
        second = buffer if grad_entropy is None else torch.empty_like(buffer)

        for start in range(0, places, ctx.chunk_size):
            rows = slice(start, min(start + ctx.chunk_size, places))
            states = hidden[rows].to(head.dtype)
            logits = logits_of(states, head, bias, ctx.scale, buffer)[:, :entries]
            logprobs = logits.sub_(normaliser[rows, None])
            whole = second[: logits.shape[0]]
            probabilities = torch.exp(logprobs, out=whole[:, :entries])
            if grad_entropy is not None:
                # -(g_H * (log p + H) + g_l); g_l is the gradient of the log-probs of a place.
                factors = logprobs.add_(entropy[rows, None]).mul_(grad_entropy[rows, None]).neg_()
                if grad_places is not None:
                    factors.sub_(grad_places[rows, None])
            else:
                assert grad_places is not None
                factors = -grad_places[rows, None]
            if of_others is None:
                grad_logits = probabilities.mul_(factors)
            else:
                # What is not of the rest is kept apart, not corrected: 1 / R is without bound.
                named = rest_of[rows]
                kept = probabilities.gather(1, named) * factors.expand_as(probabilities).gather(1, named)
                grad_logits = probabilities.mul_(factors.add_(of_others[rows, None]))
                grad_logits.scatter_(1, named, kept)
            if grad_logprobs is not None:
                grad_logits.scatter_add_(1, targets[rows], grad_logprobs[rows, : targets.shape[1]])
            whole[:, entries:].zero_()
            if ctx.scale != 1.0:
                whole.mul_(ctx.scale)
            if grad_bias is not None:
                grad_bias += whole.sum(dim=0)

            whole = whole.to(head.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = torch.mm(whole, head).to(hidden.dtype)
            if grad_weight is None:
                continue
            if head.dtype == dtype:
                grad_weight.addmm_(whole.t(), states)
            else:
                grad_weight += torch.mm(whole.t(), states, out_dtype=dtype)

        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            *none,
        )


def _by_place(values: Tensor) -> Tensor:
    """[T, n] of one value for each place, or of n."""
    return values[:, None] if values.ndim == 1 else values
