"""vLLM's own metrics through Ray's agent, with the labels by which runs and services are told apart.

They are exported as ``ray_vllm_...`` with the model's name and the replica's id, neither of which says whose
engine it is. Here they get our labels `run` and `service` too.
"""

from collections.abc import Callable
from typing import Any

import ray
from vllm.config import VllmConfig
from vllm.v1.metrics.ray_wrappers import (
    RayCounterWrapper,
    RayGaugeWrapper,
    RayHistogramWrapper,
    RayPrometheusStatLogger,
)

from services import telemetry


class _Labelled:
    """Two labels more than vLLM asks for; before the wrapper in the order of base classes."""

    service: str

    def __init__(
        self, name: str, documentation: str | None = "", labelnames: list[str] | None = None, **more: Any
    ) -> None:
        super().__init__(name, documentation, [*(labelnames or []), "run", "service"], **more)

    def _build_tags(self, *labels: Any, **named: Any) -> dict[str, str]:
        ours = {"run": telemetry.run_name(), "service": self.service}
        if labels:
            return super()._build_tags(*labels, *ours.values())  # type: ignore[misc]
        return super()._build_tags(**named, **ours)  # type: ignore[misc]


def stat_loggers(service: str) -> list[Callable[[VllmConfig, list[int]], RayPrometheusStatLogger]]:
    """What ``AsyncLLM`` takes to record its metrics; nothing in a process that has joined no cluster.

    Args:
        service: value of the label `service`.
    """
    if not ray.is_initialized():
        return []

    class Gauge(_Labelled, RayGaugeWrapper): ...

    class Counter(_Labelled, RayCounterWrapper): ...

    class Histogram(_Labelled, RayHistogramWrapper): ...

    class Logger(RayPrometheusStatLogger):
        _gauge_cls, _counter_cls, _histogram_cls = Gauge, Counter, Histogram

    for kind in (Gauge, Counter, Histogram):
        kind.service = service
    return [Logger]
