"""What is told of the distribution at each place besides the log-prob of the token there, without gradient.

One pass over the LM head, chunk by chunk as in `rlad_core.logprobs`, whatever is asked: the logits of a chunk
become log-probs in place, and all that is told is read from them.
"""

from typing import Any

import torch
from torch import Tensor

from rlad_core.logprobs import chunks_of_logits


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
    **head: Any,
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
        head: ``bias``, ``scale``, ``tokens`` and ``chunk_size``.

    Returns:
        ``teacher_logprobs`` float32 [T] always, and what was asked for: ``top_token_ids`` int64 [T, k] and
        ``top_logprobs`` [T, k], ``entropy`` [T] in nats, ``teacher_end_logprobs`` [T], ``named_logprobs``
        [T, m], ``ranks`` int64 [T]. float64 for float64 inputs.

    Raises:
        ValueError: top_k is more than there are tokens; see `token_logprobs`.
    """
    told: dict[str, list[Tensor]] = {}
    for rows, logits, second in chunks_of_logits(hidden, lm_head_weight, **head):
        if top_k > logits.shape[1]:
            raise ValueError(f"k is {top_k}; it must be in 1..{logits.shape[1]}, the size of the vocabulary")
        highest = logits.amax(dim=1, keepdim=True)
        # In two steps, since `torch.logsumexp` takes a buffer of its own.
        total = torch.sub(logits, highest, out=second).exp_().sum(dim=1, keepdim=True)
        logprobs = logits.sub_(highest.add_(total.log_()))
        parts = {"teacher_logprobs": logprobs.gather(1, targets[rows, None]).squeeze(1)}
        if top_k:
            parts["top_logprobs"], parts["top_token_ids"] = logprobs.topk(top_k, dim=1)
        if entropy:
            parts["entropy"] = torch.exp(logprobs, out=second).mul_(logprobs).sum(dim=1).neg_()
        if end_ids is not None:
            parts["teacher_end_logprobs"] = logprobs[:, end_ids].logsumexp(dim=1)
        if named_ids is not None:
            parts["named_logprobs"] = logprobs.gather(1, named_ids[rows])
        if ranks:
            parts["ranks"] = (logprobs >= parts["teacher_logprobs"][:, None]).sum(dim=1)
        for name, values in parts.items():
            told.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in told.items()}
