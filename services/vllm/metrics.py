"""vLLM's own metrics through Ray's agent, with the labels by which runs and services are told apart.

They are exported as ``ray_vllm_...`` with the model's name and the replica's id, neither of which says whose
engine it is. Here they get `run` and `service`, as ours, and Serve's `application` and `deployment`.
"""

import time
from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException
from vllm.v1.metrics.ray_wrappers import (
    RayCounterWrapper,
    RayGaugeWrapper,
    RayHistogramWrapper,
    RayPrometheusStatLogger,
)
from vllm.v1.metrics.stats import IterationStats, SchedulerStats

from rlad_core.metric_specs import DURATION_BUCKETS, TOKEN_BUCKETS
from services.base import telemetry

_labels: dict[str, str] = {}
"""Of this process, which has one engine."""


class _Labelled:
    """More labels than vLLM asks for; before the wrapper in the order of base classes."""

    def __init__(
        self, name: str, documentation: str | None = "", labelnames: list[str] | None = None, **more: Any
    ) -> None:
        super().__init__(name, documentation, [*(labelnames or []), *_labels], **more)  # type: ignore[call-arg]

    def _build_tags(self, *labels: Any, **named: Any) -> dict[str, str]:
        if labels:
            return super()._build_tags(*labels, *_labels.values())  # type: ignore[misc]
        return super()._build_tags(**named, **_labels)  # type: ignore[misc]


class _Gauge(_Labelled, RayGaugeWrapper): ...


class _Counter(_Labelled, RayCounterWrapper): ...


class _Histogram(_Labelled, RayHistogramWrapper):
    """With our buckets: vLLM's begin at 0.3 s for requests and end at the longest sequence for lengths, so
    that quantiles of what is faster, or cut off, would be the middle of a bucket that says nothing.
    """

    def __init__(
        self,
        name: str,
        documentation: str | None = "",
        labelnames: list[str] | None = None,
        buckets: list[float] | None = None,
    ) -> None:
        super().__init__(name, documentation, labelnames, buckets=buckets_of(name, buckets))


def buckets_of(name: str, theirs: list[float] | None) -> list[float] | None:
    """Upper bounds for a histogram of vLLM's."""
    if name.endswith("_seconds"):
        return list(DURATION_BUCKETS)
    if name.endswith(("_generation_tokens", "_prompt_tokens")):
        return list(TOKEN_BUCKETS)
    return theirs


class _StatLogger(RayPrometheusStatLogger):
    _gauge_cls, _counter_cls, _histogram_cls = _Gauge, _Counter, _Histogram


class _StepLogger(_StatLogger):
    """Of an engine that writes responses."""

    _stepped: float | None = None
    """When the engine's last step was told; None where nothing ran after it."""

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        *more: Any,
        **named: Any,
    ) -> None:
        """One value of the time between tokens for each engine step, not one for each token.

        Ray's agent replays each value of a histogram in Python: work for each token, on the cores of the run.
        A step makes a token of each response, so that it is the time since the step before; tokens may be
        held back (`services.rollout.holding`) and say nothing of it.
        """
        if scheduler_stats is not None:
            now, before = time.monotonic(), self._stepped
            self._stepped = now if scheduler_stats.num_running_reqs else None
            if before is not None:
                iteration_stats = iteration_stats or IterationStats()
                iteration_stats.inter_token_latencies_iter = [now - before]
        super().record(scheduler_stats, iteration_stats, *more, **named)


def stat_loggers(service: str) -> list[type[RayPrometheusStatLogger]]:
    """What ``AsyncLLM`` takes so as to record its metrics; nothing outside a Serve replica.

    Args:
        service: value of the label `service`.
    """
    try:
        context = serve.get_replica_context()
    except RayServeException:
        return []
    _labels.update(
        run=telemetry.run_name(),
        service=service,
        application=context.app_name,
        deployment=context.deployment,
    )
    return [_StepLogger if service == "rollout" else _StatLogger]
