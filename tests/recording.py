"""Metrics recorded for a test to read."""

from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client
import pytest

from services.base import telemetry
from services.base.metric_sinks import PrometheusSink


@contextmanager
def recording_into(registry: prometheus_client.CollectorRegistry) -> Iterator[None]:
    """Record into `registry`, whether or not this process has joined a cluster."""
    sink = PrometheusSink(registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry, "current_sink", lambda: sink)
        yield
