"""kill -9 of the engine's process beside a replica, in the middle of a request."""

from tests.abuse.losing import lose
from tests.abuse.target import Effort, Target

SENT = "kill -9 of vLLM's engine core in the middle of a request"


def attack(target: Target, effort: Effort) -> str:
    """As for a replica, which ends with its engine."""
    return lose(target, "rollout", "EngineCore")
