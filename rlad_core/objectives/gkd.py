"""GKD (on-policy distillation by whole distributions): a divergence of policy and teacher at each place.

Where OPD has one sampled token as its estimate, here the two distributions are compared at every place of the
policy's own responses, and the loss is differentiated as it stands; how likely the responses are has no part
in it. With P = pi_T and Q = pi_theta over the outcomes of a place:

===========  =====================================================================================
divergence   of a place
===========  =====================================================================================
reverse_kl   KL(Q || P) = sum Q (log Q - log P): seeks one mode of the teacher's
forward_kl   KL(P || Q) = sum P (log P - log Q): covers all of them
js           KL(P || M) / 2 + KL(Q || M) / 2 with M = (P + Q) / 2: bounded by log 2
===========  =====================================================================================

The outcomes are k tokens and all others as one (`rlad_core.objectives.outcomes`): each is a divergence
of two distributions, at most that of the whole ones. ``top_of`` says whose likeliest tokens the k are: the
teacher's, or those that the policy itself held likeliest when it sampled the response. The rollout engine
names the latter and the teacher is asked for their log-probs; pi_theta of them is the learner's own, so that
an engine that rounds, or an older policy, chooses at most other tokens to tell apart.

Source: "On-policy Distillation of Language Models", arXiv 2306.13649 (divergences on the policy's own
samples, without a gradient through the sampling); the k tokens with the rest as one outcome are ours.

Statistics, over the trained tokens on which the teacher counts: ``divergence``, ``told_share`` (how much of
the policy's probability is on outcomes told apart), ``kl_to_teacher`` (as elsewhere, of the sampled tokens),
and ``entropy`` where the batch has it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from rlad_core.objectives.interface import ObjectiveOutput, TokenBatch
from rlad_core.objectives.outcomes import finite, outcomes_of_top
from rlad_core.objectives.teacher import ReadsTeacher

if TYPE_CHECKING:
    from torch import Tensor


class GKD(ReadsTeacher):
    """A divergence of policy and teacher over likely tokens; ``TokenBatch.advantages`` isn't read."""

    uses_group_advantage: ClassVar[bool] = False

    kind: str = "gkd"
    divergence: Literal["reverse_kl", "forward_kl", "js"] = Field(
        default="reverse_kl", description="KL(policy, teacher), KL(teacher, policy) or Jensen-Shannon's."
    )
    top_of: Literal["teacher", "policy"] = Field(
        default="teacher", description="Whose likeliest tokens are told apart at each place."
    )
    top_k: PositiveInt = Field(default=64, description="How many.")

    @property
    def needs_teacher(self) -> bool:
        """Always."""
        return True

    @property
    def teacher_top_k(self) -> int:
        """See `Objective.teacher_top_k`."""
        return self.top_k if self.top_of == "teacher" else 0

    @property
    def policy_top_k(self) -> int:
        """See `Objective.policy_top_k`."""
        return self.top_k if self.top_of == "policy" else 0

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch; ``step`` doesn't matter."""
        term = self.teacher_term(batch)
        outcomes = outcomes_of_top(batch, "gkd")
        policy, teacher = finite(outcomes.policy), finite(outcomes.teacher)
        found = self._divergence(policy, teacher).masked_fill(~term.counts, 0.0)
        told = {
            "divergence": batch.statistic(found, term.counts),
            "told_share": batch.statistic(1 - policy[:, -1].exp(), term.counts),
            "kl_to_teacher": batch.statistic(term.policy - term.teacher, term.counts),
        }
        if batch.entropy is not None:
            told["entropy"] = batch.statistic(batch.entropy)
        return ObjectiveOutput((found * batch.weights).sum(), told)

    def _divergence(self, policy: Tensor, teacher: Tensor) -> Tensor:
        """Of each place [T], from log-probs [T, n]."""
        import torch

        if self.divergence == "reverse_kl":
            return _kl(policy, teacher)
        if self.divergence == "forward_kl":
            return _kl(teacher, policy)
        middle = torch.logaddexp(policy, teacher) - math.log(2)
        return 0.5 * (_kl(teacher, middle) + _kl(policy, middle))


def _kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(first || second) of each place."""
    return (first.exp() * (first - second)).sum(dim=1)
