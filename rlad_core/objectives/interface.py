"""What goes into an objective and what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenBatch:
    """The response tokens of one micro-batch, one after another; T of them, 0 is allowed.

    All tensors are 1-D of length T; log-probs are natural logs of the untruncated, temperature-1
    distribution. Gradients flow through ``policy_logprobs`` (and ``entropy``) alone.

    Attributes:
        policy_logprobs: log pi_theta, float, the only one with a gradient.
        old_logprobs: log pi_old as the learner computes it; on the first update of a batch
            ``policy_logprobs.detach()``.
        rollout_logprobs: log-probs as the inference engine reported them while sampling.
        advantages: the response's advantage, repeated for each of its tokens.
        weights: what a token's loss counts, from ``Objective.token_weights`` of the *global* batch.
        teacher_logprobs: log pi_T of the same tokens, or None where no teacher was asked.
        is_last: bool, the last token of its response.
        is_correct: bool, the token's response was right.
        group_has_correct: bool, some response of the token's group was right.
        entropy: entropy of pi_theta at the token, in nats.

    Raises:
        ValueError: shapes differ, or a tensor that must be constant carries a gradient.
    """

    policy_logprobs: Tensor
    old_logprobs: Tensor
    rollout_logprobs: Tensor
    advantages: Tensor
    weights: Tensor
    teacher_logprobs: Tensor | None = None
    is_last: Tensor | None = None
    is_correct: Tensor | None = None
    group_has_correct: Tensor | None = None
    entropy: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self.policy_logprobs.shape
        if len(shape) != 1:
            raise ValueError(
                f"TokenBatch.policy_logprobs has shape {tuple(shape)}; give one value per response token"
            )
        for field in fields(self):
            tensor: Tensor | None = getattr(self, field.name)
            if tensor is None:
                continue
            if tensor.shape != shape:
                raise ValueError(
                    f"TokenBatch.{field.name} has shape {tuple(tensor.shape)}, but policy_logprobs has "
                    f"{tuple(shape)}; give one value per response token"
                )
            if tensor.requires_grad and field.name not in ("policy_logprobs", "entropy"):
                # With old_logprobs = policy_logprobs, not detached, every gradient would silently be zero.
                raise ValueError(f"TokenBatch.{field.name} carries a gradient; detach it")


@dataclass(frozen=True, eq=False)
class Statistic:
    """A mean kept as its sum and count, so that it adds up over micro-batches and ranks.

    ``total`` is a number or a 0-d float64 tensor without gradient (kept on its device, to avoid a
    synchronisation per statistic); ``count`` likewise.
    """

    total: Tensor | float
    count: Tensor | float

    @classmethod
    def of(cls, values: Tensor, where: Tensor | None = None) -> "Statistic":
        """Statistic of ``values`` [T], bools counting as 0 and 1; only of those ``where`` [T] says so."""
        values = values.detach().to(torch.float64)
        if where is None:
            return cls(values.sum(), values.numel())
        return cls(values.masked_fill(~where, 0.0).sum(), where.sum(dtype=torch.float64))

    def __add__(self, other: "Statistic") -> "Statistic":
        return Statistic(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        """The mean; NaN where nothing was counted, since no number would be true."""
        count = float(self.count)
        return float(self.total) / count if count else float("nan")


@dataclass(frozen=True, eq=False)
class ObjectiveOutput:
    """Loss (0-d, a *sum* over tokens, so micro-batches and ranks add) and statistics by name."""

    loss: Tensor
    statistics: dict[str, Statistic]


class Objective(Protocol):
    """What the learner minimises."""

    @property
    def needs_teacher(self) -> bool:
        """Whether ``TokenBatch.teacher_logprobs`` must be there."""
        ...

    def token_weights(self, lengths: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Weight of each token of each response of the global batch; see ``aggregation_weights``."""
        ...

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch.

        Args:
            batch: the micro-batch's response tokens.
            step: steps of this stage already done, 0 at its first.

        Raises:
            ValueError: the batch lacks something this objective needs.
        """
        ...
