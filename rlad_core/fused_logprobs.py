"""Log-probs by a kernel that never writes logits: cut-cross-entropy (arXiv 2411.09009; the extra 'fused').

`token_logprobs` holds a chunk of logits at a time, and is what this is held against: log-probs are the same
but for rounding. Gradients with respect to the head and to the hidden states are summed in the states' 16
bits, block by block, where there they are summed in float32.
"""

from typing import Any

from torch import Tensor


def kernel() -> Any:
    """The library's function, whose types it does not tell.

    Raises:
        ModuleNotFoundError: cut-cross-entropy is not there; says what to install.
    """
    try:
        from cut_cross_entropy import linear_cross_entropy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "learner.logprobs fused is cut-cross-entropy's, which is not installed: "
            "pip install cut-cross-entropy, or write learner.logprobs: chunked"
        ) from error
    return linear_cross_entropy


def can_fuse(hidden: Tensor, targets: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernel does it: one target for each place, no bias, 16 bits on a GPU."""
    return hidden.is_cuda and hidden.element_size() == 2 and targets.ndim == 1 and bias is None


def fused_logprobs(
    hidden: Tensor, lm_head_weight: Tensor, targets: Tensor, *, scale: float = 1.0, tokens: int | None = None
) -> Tensor:
    """Log-probs of the targets, differentiable with respect to ``hidden`` and ``lm_head_weight``.

    Args:
        hidden: [T, D] in 16 bits, on a GPU.
        lm_head_weight: [V, D].
        targets: [T] token ids.
        scale, tokens: see `rlad_core.logprobs.token_logprobs`.

    Returns:
        float32 [T].

    Raises:
        ModuleNotFoundError: see `kernel`.
    """
    states = hidden if scale == 1.0 else hidden * scale
    # For the normaliser it rounds the head to 16 bits; for a target's logit it multiplies with what it gets.
    # That of a head in 32 bits would be another head's, and in 16 bits each product is rounded.
    head = lm_head_weight[:tokens].to(states.dtype).float()
    # Its default leaves out gradients of what is improbable, which is most of a vocabulary.
    losses: Tensor = kernel()(states, head, targets, reduction="none", filter_eps=None)
    return -losses.float()
