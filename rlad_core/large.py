"""From which size on a model is large, so that settings with ``auto`` spare memory instead of time."""

from typing import Final, Literal

Recompute = Literal["auto", "full", "selective", "off"]
"""See ``learner.activation_checkpointing``."""

LARGE_FROM_PARAMETERS: Final = 100_000_000
"""Below it a model is small beside what else is in memory."""


def recomputed(how: Recompute, parameters: int) -> Recompute:
    """Which activations a model of this size computes again: what ``auto`` comes to, else `how`."""
    if how != "auto":
        return how
    return "full" if parameters >= LARGE_FROM_PARAMETERS else "off"
