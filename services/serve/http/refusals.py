"""Requests that are refused before a route of a service sees them, as metrics have them."""

from rlad_core import metrics
from rlad_core.metric_specs import LimitKind
from services.base import telemetry

PROXY = "proxy"
"""In place of a service: what no service sees."""


def count_refusal(service: str, kind: str, limit: LimitKind | None = None) -> None:
    """Count one.

    Args:
        service: that refused it, or `PROXY`.
        kind: name of the error.
        limit: that it hit, if any.
    """
    telemetry.count(metrics.SERVICE_REQUESTS, service=service, kind="other")
    telemetry.count(metrics.SERVICE_ERRORS, service=service, kind=kind)
    if limit is not None:
        telemetry.count(metrics.SERVICE_LIMITS, service=service, kind=limit)
