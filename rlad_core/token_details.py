"""What is told of the distribution at each place besides the log-prob of the token there, without gradient.

One pass over the LM head, chunk by chunk as in `rlad_core.logprobs`, whatever is asked: the logits of a chunk
become log-probs in place, and all that is told is read from them.

What is told beside the token itself is ``(z - max z) - log sum exp(z - max z)``, with an error of the sum's
alone. The token's own is ``z - logsumexp z``, as `rlad_core.logprobs` has the policy's: off by as much as
half a step of the logsumexp (2e-6 at 32 to 64 nats), but the same number where the teacher is the policy.
"""

import torch
from torch import Tensor

from rlad_core.logits import chunks_of_logits


@torch.no_grad()
def token_details(
    hidden: Tensor,
    lm_head_weight: Tensor,
    targets: Tensor,
    *,
    top_k: int = 0,
    entropy: bool = False,
    end_ids: Tensor | None = None,
    named_ids: Tensor | None = None,
    ranks: bool = False,
    bias: Tensor | None = None,
    scale: float = 1.0,
    tokens: int | None = None,
    chunk_size: int = 1024,
) -> dict[str, Tensor]:
    """Values at each of T places, by the names that `rlad_core.schema.TOKEN_VALUES` declares.

    Args:
        hidden: [T, D], as all that is not named here as in `rlad_core.logprobs.token_logprobs`.
        lm_head_weight: [V, D].
        targets: int64 [T].
        top_k: tell so many of the likeliest tokens, likeliest first; 0: none.
        entropy: tell the entropy.
        end_ids: int64 [E], no id twice; tell the log of their probabilities' sum.
        named_ids: int64 [T, m]; tell their log-probs.
        ranks: tell how many tokens are at least as likely as each target, which is one of them.
        bias, scale, tokens, chunk_size: of the head, as there.

    Returns:
        ``teacher_logprobs`` float32 [T] always, and what was asked for: ``top_token_ids`` int64 [T, k] and
        ``top_logprobs`` [T, k], ``entropy`` [T] in nats, ``teacher_end_logprobs`` [T], ``named_logprobs``
        [T, m], ``ranks`` int64 [T]. float64 for float64 inputs.

    Raises:
        ValueError: top_k is more than there are tokens; see `token_logprobs`.
    """
    told: dict[str, list[Tensor]] = {}
    for rows, logits, second in chunks_of_logits(
        hidden, lm_head_weight, bias=bias, scale=scale, tokens=tokens, chunk_size=chunk_size
    ):
        if top_k > logits.shape[1]:
            raise ValueError(f"k is {top_k}; it must be in 1..{logits.shape[1]}, the size of the vocabulary")
        highest = logits.amax(dim=1, keepdim=True)
        # In two steps, since `torch.logsumexp` takes a buffer of its own.
        log_sum = torch.sub(logits, highest, out=second).exp_().sum(dim=1, keepdim=True).log_()
        ids = targets[rows, None]
        parts = {"teacher_logprobs": (logits.gather(1, ids) - (highest + log_sum)).squeeze(1)}
        # Not their sum at once: its rounding would be more than all that a sure teacher leaves to the others.
        logprobs = logits.sub_(highest).sub_(log_sum)
        if top_k:
            parts["top_logprobs"], parts["top_token_ids"] = logprobs.topk(top_k, dim=1)
        if entropy:
            parts["entropy"] = torch.exp(logprobs, out=second).mul_(logprobs).sum(dim=1).neg_()
        if end_ids is not None:
            parts["teacher_end_logprobs"] = logprobs[:, end_ids].logsumexp(dim=1)
        if named_ids is not None:
            parts["named_logprobs"] = logprobs.gather(1, named_ids[rows])
        if ranks:
            parts["ranks"] = (logprobs >= logprobs.gather(1, ids)).sum(dim=1)
        for name, values in parts.items():
            told.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in told.items()}
