"""kill -9 of a replica in the middle of a request."""

from tests.abuse.losing import lose
from tests.abuse.target import SERVICES, Effort, Target

SENT = "kill -9 of a replica in the middle of a request"


def attack(target: Target, effort: Effort) -> str:
    """503 with Retry-After at once, and the clients repeat it."""
    services = SERVICES if effort.long else ("verifier",)
    return "; ".join(lose(target, service, f"ServeReplica:{service}") for service in services)
