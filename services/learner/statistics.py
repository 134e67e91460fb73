"""What is told of a step whatever its objective is."""

from typing import Any, Final

import torch
import torch.distributed as dist

from rlad_core.objectives import Statistic, TokenBatch
from rlad_core.stage_rules import DISAGREEMENT

Statistics = dict[str, Statistic]

OTHERS: Final = frozenset(
    (
        *("step", "version", "stage", "seconds", "shares", "teacher_hidden_seconds", "experience"),
        *("loss", "gradient_norm", "learning_rate", "entropy_coefficient", "updates", "empty_mini_batches"),
        *("kl_to_old", DISAGREEMENT),
        *("reward_mean", "accuracy", "responses", "response_length", "truncated", "truncated_share"),
        *("groups", "dropped_groups", "tokens", "wasted_tokens", "trained_tokens"),
        *("stale_masked", "staleness", "staleness_max"),
        *("teacher_checked", "teacher_check_difference", "teacher_check_seconds"),
        *("learner_idle", "rollout_idle", "teacher_at_work_seconds", "teacher_added_seconds"),
    )
)
"""What a line of metrics.jsonl has of any step: no objective can tell of something else under these names."""


def distances(batch: TokenBatch, *, has_old: bool) -> Statistics:
    """Of any objective, over the tokens that are trained on: the entropy, on how many teacher and verifier
    disagree in sign, and how far the policy is from the old one.

    The last is the estimate k3 of KL(pi_old, pi_theta) on samples of pi_old, rho - 1 - log rho: never
    negative, and 0 at the first update.

    Args:
        has_old: the batch has more than one update: that is of interest.
    """
    told: Statistics = {}
    if batch.entropy is not None:
        told["entropy"] = batch.statistic(batch.entropy)
    if batch.teacher_logprobs is not None and batch.is_correct is not None and batch.is_end is not None:
        # An end token says more of how the two models end than of what the teacher thinks of the response.
        says = (batch.teacher_logprobs - batch.old_logprobs).sign()
        told[DISAGREEMENT] = batch.statistic(says == torch.where(batch.is_correct, -1, 1), ~batch.is_end)
    if has_old:
        log_ratio = batch.policy_logprobs.detach() - batch.old_logprobs
        told["kl_to_old"] = batch.statistic(log_ratio.expm1() - log_ratio)
    return told


def add(statistics: Statistics, more: Statistics) -> None:
    """Add what another micro-batch told to what was told before."""
    for name, statistic in more.items():
        statistics[name] = statistics[name] + statistic if name in statistics else statistic


def over_ranks(statistics: Statistics) -> Statistics:
    """Those of all ranks together, on each; without those that no token counts in. A collective call."""
    mine = {name: (float(s.total), float(s.count)) for name, s in statistics.items()}
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    merged: Statistics = {}
    for theirs in everyone:
        add(merged, {name: Statistic(total, count) for name, (total, count) in theirs.items()})
    return {name: statistic for name, statistic in merged.items() if statistic.count}
