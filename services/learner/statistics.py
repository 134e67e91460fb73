"""What is told of a step whatever its objective is."""

import torch

from rlad_core.objectives import Statistic, TokenBatch
from rlad_core.stage_rules import DISAGREEMENT
from services.learner.training_rows import TrainingRows

Statistics = dict[str, Statistic]


def distances(batch: TokenBatch, rows: TrainingRows) -> Statistics:
    """Of any objective: the entropy, on how many tokens teacher and verifier disagree in sign, and how far
    the policy is from the old one.

    The last is the estimate k3 of KL(pi_old, pi_theta) on samples of pi_old, rho - 1 - log rho: never
    negative, and 0 at the first update.
    """
    told: Statistics = {}
    if batch.entropy is not None:
        told["entropy"] = Statistic.of(batch.entropy)
    if batch.teacher_logprobs is not None and batch.is_correct is not None and batch.is_end is not None:
        # An end token says more of how the two models end than of what the teacher thinks of the response.
        says = (batch.teacher_logprobs - batch.old_logprobs).sign()
        told[DISAGREEMENT] = Statistic.of(says == torch.where(batch.is_correct, -1, 1), ~batch.is_end)
    if rows.old_logprobs:
        log_ratio = batch.policy_logprobs.detach() - batch.old_logprobs
        told["kl_to_old"] = Statistic.of(log_ratio.expm1() - log_ratio)
    return told


def add(statistics: Statistics, more: Statistics) -> None:
    """Put what another micro-batch told to what was told before."""
    for name, statistic in more.items():
        statistics[name] = statistics[name] + statistic if name in statistics else statistic
