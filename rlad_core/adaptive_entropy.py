"""An entropy bonus whose weight follows the policy's entropy: Skywork-OR1's adaptive entropy control.

The coefficient c grows by delta after a step whose entropy e is under the target, and falls by delta after
any other; it enters the loss only while the entropy is not above the target:

    c' = clip(c + delta, 0, most)  where e < target, else  clip(c - delta, 0, most)
    the next step's weight is c' where e <= target, else 0

Source: Skywork-OR1, arXiv 2505.22312. There e is measured at the policy that a step begins with, by a pass of
its own; here it is what the step before measured while it trained, which costs none: the weight is one step
late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class EntropyControl:
    """Settings and state.

    Attributes:
        target: nats a token.
        delta: change of the coefficient after a step.
        most: upper bound of the coefficient.
        coefficient: c.
        entropy: of the last step, nats a token; None before the first.
    """

    target: float
    delta: float
    most: float
    coefficient: float = 0.0
    entropy: float | None = None

    @property
    def weight(self) -> float:
        """What a token's entropy counts in the next step's loss."""
        return self.coefficient if self.entropy is not None and self.entropy <= self.target else 0.0

    @property
    def kept(self) -> dict[str, float | None]:
        """The state, for a checkpoint."""
        return {"coefficient": self.coefficient, "entropy": self.entropy}

    def restored(self, kept: Mapping[str, float | None]) -> EntropyControl:
        """The state of a checkpoint under these settings."""
        coefficient = min(kept["coefficient"] or 0.0, self.most)
        return replace(self, coefficient=coefficient, entropy=kept["entropy"])

    def after(self, entropy: float) -> EntropyControl:
        """The state after a step with this mean entropy."""
        change = self.delta if entropy < self.target else -self.delta
        coefficient = min(max(self.coefficient + change, 0.0), self.most)
        return replace(self, coefficient=coefficient, entropy=entropy)
