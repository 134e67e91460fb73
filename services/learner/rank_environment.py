"""What a rank's process has in its environment from the start: libraries read it when they are loaded."""

from typing import Final

from rlad_core.config import LearnerConfig
from services.learner.freed_memory import KEEPS_FREED_MEMORY

GIVES_CORES_AWAY: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait for each other sleep. By themselves they spin, which is a quarter faster on cores that
nobody else wants (a model of 0.3M parameters); but a core that an engine wants is wasted so, and where one of
two threads has lost its core to it, the other one's as well (docs/performance.md).
"""


def rank_environment(learner: LearnerConfig, *, shares_cores: bool) -> dict[str, str]:
    """Variables of a rank.

    Args:
        shares_cores: groups are sampled while it works.
    """
    if learner.num_gpus:
        return {}
    return {**KEEPS_FREED_MEMORY, **(GIVES_CORES_AWAY if shares_cores else {})}
