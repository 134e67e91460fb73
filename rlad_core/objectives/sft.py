"""SFT: cross-entropy on given responses (worked solutions, or the teacher's own that the verifier accepted).

A response of the teacher that was cut off is left out: as a whole turn it would teach to stop in the middle.

The token loss is ``-log pi_theta``. With the teacher's accepted responses this is offline distillation.

Statistics: ``nll`` per trained token in nats, and ``entropy`` where the batch has it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from rlad_core.objectives.aggregation import Aggregation
from rlad_core.objectives.interface import ObjectiveOutput, TokenBatch
from rlad_core.objectives.objective import Objective, ResponsesOf


class SFT(Objective):
    """Cross-entropy on given responses: a task's own solution to each prompt of a step, or those of
    ``group_size`` responses of the teacher to each that the verifier accepts.

    Of the batch only ``policy_logprobs`` and ``weights`` enter the loss.
    """

    uses_group_advantage: ClassVar[bool] = False

    kind: str = "sft"
    aggregation: Aggregation = Field(default="token_mean", description="As for the other objectives.")
    source: Literal["trace", "teacher"] = Field(
        default="trace",
        description="trace: the task's own worked solutions, one a prompt; teacher: those of group_size "
        "responses of the teacher that the verifier accepts, and that were not cut off.",
    )

    @property
    def needs_teacher(self) -> bool:
        """Only the teacher's own responses need it; its log-probs aren't used."""
        return self.source == "teacher"

    @property
    def responses_of(self) -> ResponsesOf:
        """See `source`."""
        return "teacher" if self.source == "teacher" else "task"

    @property
    def without_teacher(self) -> str:
        """See `Objective.without_teacher`."""
        return "or take source: trace"

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch; ``step`` doesn't matter."""
        statistics = {"nll": batch.statistic(-batch.policy_logprobs)}
        if batch.entropy is not None:
            statistics["entropy"] = batch.statistic(batch.entropy)
        return ObjectiveOutput(-(batch.policy_logprobs * batch.weights).sum(), statistics)
