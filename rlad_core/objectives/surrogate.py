"""The one clipped surrogate that all on-policy methods share.

A token's loss is ``w * (-min(rho * A, clip(rho, 1 - eps_low, 1 + eps_high) * A) + extra)``. The methods
differ only in the ratio rho, the advantage A and the additive term; w, a constant, is the truncated
importance weight that corrects the difference between inference engine and learner.

With A < 0 nothing bounds rho from above in it, and a teacher in the ratio may hold a token for nearly
impossible. With ``ratio_cap: c`` the minimum is at least c * A there ("dual clip", arXiv 1912.09729).

Statistics every method exports, means over the tokens that are trained on (`TokenBatch.trained`):

- ``ratio``: rho before clipping, e^88 for one that float32 has not, so that a token which the loss itself
  bounds leaves the mean a number;
- ``clip_fraction_low``: share of tokens with A < 0 and rho < 1 - eps_low;
- ``clip_fraction_high``: share of tokens with A > 0 and rho > 1 + eps_high. The surrogate gives no
  gradient on exactly these two sets, and with ``ratio_cap`` on a third:
- ``ratio_capped_share``: share of tokens with A < 0 and rho > ratio_cap;
- ``mismatch``: \\|log pi_old - log pi_rollout\\|, ``mismatch_outside_share``: share of tokens whose
  pi_old / pi_rollout lies outside 0.9..1.1;
- ``importance_weight`` and ``importance_weight_capped_share``, where the correction is on;
- ``entropy``, where the batch has it; ``kl_to_teacher`` (``log pi_theta - log pi_T``, the k1 estimate on the
  policy's own samples), where the batch has teacher log-probs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.objective import Objective
from rlad_core.objectives.reference import reference_term

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_LOG_RATIO: Final = 88.0
"""Above it a ratio is none in float32."""


class ClippedSurrogate(Objective):
    """Base of the on-policy objectives: bounds of the ratio, cap of the mismatch correction."""

    eps_low: float = Field(default=0.2, gt=0, lt=1, description="The ratio is clipped below at 1 - eps_low.")
    eps_high: PositiveFloat = Field(default=0.28, description="The ratio is clipped above at 1 + eps_high.")
    ratio_cap: float | None = Field(
        default=None,
        gt=1,
        description="Bound of the ratio from above where the advantage is negative: a token beyond it gets "
        "no gradient; null for none.",
    )
    mismatch_cap: PositiveFloat | None = Field(
        default=2.0,
        description="Cap of the importance weight exp(old - rollout log-prob) that corrects the difference "
        "between inference engine and learner; null switches the correction off.",
    )

    reference_kl: NonNegativeFloat = Field(
        default=0.0, description="Weight of KL(pi_theta, pi_ref) to the recipe's reference; 0: none is asked."
    )
    reference_estimator: Literal["k1", "k2", "k3"] = Field(
        default="k3", description="How that KL is estimated, see `rlad_core.objectives.reference`."
    )

    @property
    def needs_reference(self) -> bool:
        """Where the KL to it has a weight."""
        return self.reference_kl > 0

    def surrogate(
        self,
        batch: TokenBatch,
        log_ratio: Tensor,
        advantages: Tensor,
        *,
        extra: Tensor | None = None,
        statistics: Mapping[str, Statistic] | None = None,
    ) -> ObjectiveOutput:
        """Weighted sum of the token losses.

        Args:
            batch: the micro-batch.
            log_ratio: log rho [T], with its gradient.
            advantages: A [T], constant.
            extra: additive term of the token loss [T]; left out where a token has no weight, but its gradient
                must be a number there too.
            statistics: the method's own; they replace the common ones of the same name.
        """
        told = dict(statistics or {})
        if self.reference_kl > 0:
            pull = reference_term(batch, self.reference_estimator)
            extra = self.reference_kl * pull.loss + (0.0 if extra is None else extra)
            told["kl_to_reference"] = batch.statistic(pull.estimate)
        log_low, log_high = math.log1p(-self.eps_low), math.log1p(self.eps_high)
        clipped_low = (advantages < 0) & (log_ratio < log_low)
        clipped_high = (advantages > 0) & (log_ratio > log_high)
        # The same number as min(rho * A, clip(rho) * A), but clipped tokens, and those without an advantage
        # or a weight, leave before the exponential: an overflow there would turn their zero into NaN.
        bounded = log_ratio.masked_fill(clipped_low, log_low).masked_fill(clipped_high, log_high)
        bounded = bounded.masked_fill((advantages == 0) | ~batch.trained, 0.0)
        if self.ratio_cap is not None:
            log_cap = math.log(self.ratio_cap)
            capped = (advantages < 0) & (log_ratio > log_cap)
            bounded = bounded.masked_fill(capped, log_cap)
            told["ratio_capped_share"] = batch.statistic(capped)
        token_loss = -bounded.exp() * advantages
        if extra is not None:
            token_loss = token_loss + extra
        token_loss = token_loss.masked_fill(~batch.trained, 0.0)  # a weight of 0 makes NaN of what overflows

        common = {
            "ratio": batch.statistic(log_ratio.detach().clamp(max=_LARGEST_LOG_RATIO).exp()),
            "clip_fraction_low": batch.statistic(clipped_low),
            "clip_fraction_high": batch.statistic(clipped_high),
        }
        if batch.entropy is not None:
            common["entropy"] = batch.statistic(batch.entropy)
        if batch.teacher_logprobs is not None:
            common["kl_to_teacher"] = batch.statistic(batch.policy_logprobs.detach() - batch.teacher_logprobs)

        mismatch = batch.old_logprobs - batch.rollout_logprobs
        common["mismatch"] = batch.statistic(mismatch.abs())
        common["mismatch_outside_share"] = batch.statistic((mismatch.exp() - 1).abs() > 0.1)
        if self.mismatch_cap is not None:
            importance = mismatch.exp()
            over = importance > self.mismatch_cap
            importance = importance.clamp(max=self.mismatch_cap)
            token_loss = token_loss * importance
            common["importance_weight"] = batch.statistic(importance)
            common["importance_weight_capped_share"] = batch.statistic(over)

        loss = (token_loss * batch.weights).sum()
        return ObjectiveOutput(loss, common | told)
