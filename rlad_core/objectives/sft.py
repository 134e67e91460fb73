"""SFT: cross-entropy on given responses (worked solutions, or the teacher's own that the verifier accepted).

The token loss is ``-log pi_theta``. With the teacher's accepted responses this is offline distillation.

Statistics: ``nll`` per token in nats, and ``entropy`` where the batch has it.
"""

from dataclasses import dataclass

import torch

from rlad_core.objectives.aggregation import Aggregated, Aggregation
from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch


@dataclass(frozen=True, kw_only=True)
class SFT(Aggregated):
    """Supervised fine-tuning; of the batch only ``policy_logprobs`` and ``weights`` enter the loss."""

    aggregation: Aggregation = "token_mean"

    @property
    def needs_teacher(self) -> bool:
        """Never: the teacher may write the responses, but its log-probs aren't used."""
        return False

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch; ``step`` doesn't matter."""
        statistics = {"nll": Statistic.of(-batch.policy_logprobs)}
        if batch.entropy is not None:
            statistics["entropy"] = Statistic.of(batch.entropy)
        return ObjectiveOutput(-torch.sum(batch.policy_logprobs * batch.weights), statistics)
