"""GRPO: reinforcement learning from group-relative advantages, no teacher.

``log rho = log pi_theta - log pi_old``, A = the response's group-relative advantage, no additive term.

Source: DeepSeekMath, arXiv 2402.03300, without its reference KL (beta 0, as in DAPO, arXiv 2503.14476, from
which the asymmetric clip comes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlad_core.objectives.surrogate import ClippedSurrogate

if TYPE_CHECKING:
    from rlad_core.objectives.interface import ObjectiveOutput, TokenBatch


class GRPO(ClippedSurrogate):
    """Group-relative policy optimisation, no teacher."""

    kind: str = "grpo"

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch; ``step`` doesn't matter."""
        return self.surrogate(batch, batch.policy_logprobs - batch.old_logprobs, batch.advantages)
