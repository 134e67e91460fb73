"""Settings of the learner that say how often a batch is used, and what holds the policy back meanwhile."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from rlad_core.adaptive_entropy import EntropyControl
from rlad_core.sections.base import Section
from rlad_core.sections.resume import Fixed, OnResume


class AdaptiveEntropy(Section):
    """An entropy bonus whose weight follows the entropy, see `rlad_core.adaptive_entropy`."""

    on_resume: ClassVar[OnResume | None] = OnResume.FIXED

    target: PositiveFloat = Field(default=0.2, description="Nats a token (Skywork-OR1: 0.2).")
    delta: PositiveFloat = Field(default=1e-4, description="Change of the coefficient after a step.")
    start: NonNegativeFloat = Field(default=0.0, description="The coefficient at first.")
    most: PositiveFloat = Field(default=5e-3, description="Upper bound of the coefficient.")

    @property
    def control(self) -> EntropyControl:
        """Its state at first."""
        return EntropyControl(self.target, self.delta, self.most, self.start)


class LearnerUpdates(Section):
    """What `LearnerConfig` has of it."""

    updates_per_batch: Fixed[PositiveInt] = Field(
        default=1,
        description="Mini-batches of whole groups a step's batch is split into, one optimizer step each. "
        "Above 1 the old policy's log-probs are computed before the first.",
    )
    epochs_per_batch: Fixed[PositiveInt] = Field(
        default=1, description="How often a step goes through its batch; pi_old stays the policy before it."
    )
    max_kl: Fixed[PositiveFloat | None] = Field(
        default=None,
        description="A step makes no further update once KL(pi_old, pi_theta) on the next mini-batch is "
        "above it, nats a token; null: never.",
    )
    adaptive_entropy: Fixed[AdaptiveEntropy | None] = Field(
        default=None, description="An entropy bonus whose weight follows the entropy; null: none."
    )
