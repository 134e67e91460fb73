"""KDRL: GRPO plus a distillation penalty, the main baseline of RLAD.

``log rho = log pi_theta - log pi_old``, A = the response's group-relative advantage, and the additive term
``beta * 0.5 * (log pi_T - log pi_theta)^2``, with ``beta = max(beta - beta_decay * step, beta_end)`` if
annealed.

Source: KDRL, arXiv 2506.02208: objective, the k2 estimator of KL(pi_theta || pi_T), annealing (there
``max(5e-3 - 5e-5 * step, 1e-3)``), and the masks that distil on wrong responses or in failed groups only.

Only k2 is offered. The gradient of k2 on the policy's own samples is that of the KL divergence.
Differentiating k1 = log pi_theta - log pi_T instead gives grad log pi_theta, in which the teacher drops
out; k3's is biased.

A masked token contributes nothing to the additive term, but still counts in the aggregation's denominator.

Statistics beside the surrogate's: ``distillation_loss`` (k2, over the distilled tokens),
``distillation_share`` (of all tokens), ``distillation_beta``.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.surrogate import ClippedSurrogate
from rlad_core.objectives.teacher import teacher_term


@dataclass(frozen=True, kw_only=True)
class KDRL(ClippedSurrogate):
    """GRPO with a k2 penalty towards the teacher.

    Attributes:
        beta: weight of the penalty at step 0.
        beta_decay: what beta loses per step.
        beta_end: where the decay stops; needed with beta_decay.
        mask: distil on all tokens, on those of wrong responses, or on those of groups with no right response.
        mask_end_token: leave each response's last token out of the penalty.
        estimator: of the divergence; "k2" alone, see the module.
    """

    beta: float = 2e-3
    beta_decay: float = 0.0
    beta_end: float | None = None
    mask: Literal["none", "wrong_responses", "failed_groups"] = "none"
    mask_end_token: bool = False
    estimator: Literal["k2"] = "k2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimator != "k2":
            raise ValueError(
                f"estimator is {self.estimator!r}; write k2: the teacher drops out of k1's gradient, "
                "and k3's is biased"
            )
        if self.beta < 0 or self.beta_decay < 0:
            raise ValueError(f"beta is {self.beta} and beta_decay {self.beta_decay}; neither may be negative")
        if self.beta_decay > 0 and self.beta_end is None:
            raise ValueError(f"beta_decay is {self.beta_decay} without beta_end; say where the decay stops")
        if self.beta_end is not None and not 0 <= self.beta_end <= self.beta:
            raise ValueError(f"beta_end is {self.beta_end}; it must lie between 0 and beta, {self.beta}")

    @property
    def needs_teacher(self) -> bool:
        """Always."""
        return True

    def beta_at(self, step: int) -> float:
        """The penalty's weight after ``step`` steps of the stage."""
        return self.beta if self.beta_end is None else max(self.beta - self.beta_decay * step, self.beta_end)

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch."""
        teacher_logprobs, counts = teacher_term(batch, mask_end_token=self.mask_end_token, method="kdrl")
        distilled = counts & self._selected(batch)
        difference = teacher_logprobs - batch.policy_logprobs
        # Masked before it is squared, so that whatever stands on a masked token can't reach the gradient.
        k2 = 0.5 * torch.where(distilled, difference, 0.0).square()
        beta = self.beta_at(step)
        return self.surrogate(
            batch,
            batch.policy_logprobs - batch.old_logprobs,
            batch.advantages,
            extra=beta * k2,
            statistics={
                "distillation_loss": Statistic.of(k2, distilled),
                "distillation_share": Statistic.of(distilled),
                "distillation_beta": Statistic(beta, 1.0),
                "kl_to_teacher": Statistic.of(-difference, counts),
            },
        )

    def _selected(self, batch: TokenBatch) -> Tensor:
        """Tokens that the mask leaves in, bool [T]."""
        if self.mask == "none":
            return torch.ones_like(batch.policy_logprobs, dtype=torch.bool)
        name = "is_correct" if self.mask == "wrong_responses" else "group_has_correct"
        right: Tensor | None = getattr(batch, name)
        if right is None:
            raise ValueError(f"kdrl with mask {self.mask!r} needs TokenBatch.{name}, which is None")
        return ~right
