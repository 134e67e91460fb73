"""kill -9 of a replica that nobody asks, and of one that sends an answer."""

from tests.abuse.losing import lose_idle, lose_stream
from tests.abuse.target import SERVICES, Effort, Target

SENT = "kill -9 of an idle replica, and of one in the middle of an NDJSON answer"
_CACHED_S = 12.0
"""For longer than this Serve takes what it knew of a replica for true."""


def attack(target: Target, effort: Effort) -> str:
    """503 with Retry-After for who comes next, for health too."""
    told = []
    for service in SERVICES if effort.long else ("verifier",):
        victim = f"ServeReplica:{service}"
        told.append(lose_idle(target, service, victim))
        told.append(lose_stream(target, service, victim))
        if effort.long:
            told.append(lose_idle(target, service, victim, _CACHED_S))
    return "; ".join(told)
