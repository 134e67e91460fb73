"""The teacher's log-probs of a batch, and the tokens on which they mean something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from rlad_core.objectives.interface import TokenBatch

if TYPE_CHECKING:
    from torch import Tensor

MaskEndToken = Annotated[
    bool,
    Field(description="Leave the response's last token out of the teacher term (end tokens may differ)."),
]


def teacher_term(batch: TokenBatch, *, mask_end_token: bool, method: str) -> tuple[Tensor, Tensor]:
    """Teacher log-probs and where they count.

    Student and teacher may end a turn with different tokens (<|endoftext|> and <|im_end|>, say); the
    teacher's log-prob of a response's last token is then meaningless and ``mask_end_token`` leaves it out.

    Args:
        batch: the micro-batch.
        mask_end_token: whether last tokens are left out.
        method: who asks, for the error.

    Returns:
        ``(log pi_T [T], counts [T] bool)``.

    Raises:
        ValueError: the batch has no teacher log-probs, or no ``is_last`` though it is needed.
    """
    import torch

    if batch.teacher_logprobs is None:
        raise ValueError(
            f"{method} needs the teacher's log-probs, but TokenBatch.teacher_logprobs is None; "
            "have the rollouts scored by a teacher, or choose an objective without one (grpo)"
        )
    if not mask_end_token:
        return batch.teacher_logprobs, torch.ones_like(batch.teacher_logprobs, dtype=torch.bool)
    if batch.is_last is None:
        raise ValueError(f"{method} with mask_end_token needs TokenBatch.is_last, which is None")
    return batch.teacher_logprobs, ~batch.is_last
