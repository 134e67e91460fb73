"""How far Serve's applications are, as its controller tells it.

`serve.status()` says the same, and describes every deployment beside it, for which Serve pickles its router
anew: 25 ms of a core for each, here and in the controller, at every look. While services start there are
hundreds of looks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    """Of one application.

    Args:
        status: in Serve's words, such as DEPLOYING, RUNNING, DEPLOY_FAILED.
        reason: what Serve says of it and its deployments; the status where it says nothing.
    """

    status: str
    reason: str


def application_states() -> dict[str, State]:
    """By name; none where Serve is not up."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return {}
    states = {}
    for each in client.list_serve_statuses():
        status = each.app_status.status.value
        messages = [each.app_status.message, *(one.message for one in each.deployment_statuses)]
        states[each.name] = State(status, " ".join(filter(None, messages)).strip() or status)
    return states
