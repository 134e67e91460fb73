"""What the learner finds of tokens of older policies, age by age; see `rlad_core.staleness`."""

from __future__ import annotations

from rlad_core.objectives.interface import Statistic, TokenBatch


def by_age(batch: TokenBatch, counted: range, cap: float | None) -> dict[str, Statistic]:
    """Statistics of a micro-batch's tokens that are trained on, for each age that they may have.

    ``token_share_at_age_1`` is the share of these tokens that are one version old; ``mismatch_at_age_1`` the
    mean of \\|log pi_old - log pi_rollout\\| over them, ``importance_weight_at_age_1`` that of the truncated
    weight, ``capped_share_at_age_1`` the share of them whose weight was cut to the cap.

    Args:
        counted: policy versions whose tokens count; the last is that of the policy at the start of the step.
        cap: of the weight; None: it is not used, and not told.
    """
    versions = batch.policy_versions
    if versions is None:
        return {}
    mismatch = batch.old_logprobs - batch.rollout_logprobs
    weight = mismatch.exp()
    told: dict[str, Statistic] = {}
    for age, version in enumerate(reversed(counted)):
        of_age = versions == version
        told[f"token_share_at_age_{age}"] = batch.statistic(of_age)
        told[f"mismatch_at_age_{age}"] = batch.statistic(mismatch.abs(), of_age)
        if cap is not None:
            told[f"importance_weight_at_age_{age}"] = batch.statistic(weight.clamp(max=cap), of_age)
            told[f"capped_share_at_age_{age}"] = batch.statistic(weight > cap, of_age)
    return told
