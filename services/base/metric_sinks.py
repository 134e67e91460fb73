"""Where a recorded value goes: prometheus_client's registry, and in a cluster Ray's metrics agent as well.

Ray's metrics outside a cluster go nowhere, and the registry of a Ray worker is read by nobody but a service's
own ``/metrics``; so the choice follows from whether this process has joined a cluster, and is made anew for
each value (a command line joins after it has started).
"""

import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import prometheus_client

from rlad_core.metric_specs import MetricSpec
from services.base import tracing


class Sink(Protocol):
    """Takes values of declared metrics; `labels` holds exactly the declared ones."""

    def add(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        """Raise a counter by `value` > 0."""

    def set(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        """Set a gauge."""

    def forget(self, spec: MetricSpec, labels: Mapping[str, str]) -> None:
        """Say a gauge no more, whether or not it was set."""

    def observe(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        """Put one value into a histogram."""


class PrometheusSink:
    """prometheus_client metrics in `registry`, each made when it is first recorded."""

    def __init__(self, registry: prometheus_client.CollectorRegistry = prometheus_client.REGISTRY) -> None:
        self.registry = registry
        self._metrics: dict[str, Any] = {}
        self._lock = threading.Lock()

    def add(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        self._metric(spec).labels(**labels).inc(value)

    def set(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        self._metric(spec).labels(**labels).set(value)

    def forget(self, spec: MetricSpec, labels: Mapping[str, str]) -> None:
        with suppress(KeyError):
            self._metric(spec).remove(*(labels[name] for name in spec.labels))

    def observe(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        # An exemplar leads from a bucket to a trace that fell into it; only OpenMetrics' format tells it.
        trace = tracing.trace_id()
        self._metric(spec).labels(**labels).observe(value, {"trace_id": trace} if trace else None)

    def _metric(self, spec: MetricSpec) -> Any:
        with self._lock:
            if spec.name not in self._metrics:
                common: dict[str, Any] = {"labelnames": spec.labels, "registry": self.registry}
                if spec.kind == "counter":
                    made: Any = prometheus_client.Counter(spec.name, spec.help, **common)
                elif spec.kind == "gauge":
                    made = prometheus_client.Gauge(spec.name, spec.help, **common)
                else:
                    made = prometheus_client.Histogram(spec.name, spec.help, buckets=spec.buckets, **common)
                self._metrics[spec.name] = made
            return self._metrics[spec.name]


class RaySink:
    """ray.util.metrics; the node's agent exports them some 10 s later, as ``ray_`` and the declared name.

    A process reports a gauge to the agent once, and the agent drops it two reports later. What was set is
    therefore said again and again: else a step of minutes would have its numbers for 20 s, and no alert would
    wait for them.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._gauges: dict[tuple[str, ...], tuple[Any, float, dict[str, str]]] = {}
        self._saying: threading.Thread | None = None
        # Held while a value is handed on, so that none is said after a newer one.
        self._order = threading.RLock()

    def add(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        self._metric(spec).inc(value, tags=dict(labels))

    def set(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        made = self._metric(spec)
        with self._order:
            self._gauges[_key(spec, labels)] = (made, value, dict(labels))
            made.set(value, tags=dict(labels))
            if self._saying is None:
                self._saying = threading.Thread(target=self._say_again, daemon=True, name="gauges")
                self._saying.start()

    def forget(self, spec: MetricSpec, labels: Mapping[str, str]) -> None:
        with self._order:
            self._gauges.pop(_key(spec, labels), None)

    def _say_again(self) -> None:
        """Twice a report, until this process has left the cluster."""
        import ray

        pause_s = ray._config.metrics_report_interval_ms() / 2000
        while True:
            time.sleep(pause_s)
            with self._order:
                if not ray.is_initialized():  # another cluster has nothing to do with these
                    self._gauges.clear()
                    self._saying = None
                    return
                for made, value, labels in self._gauges.values():
                    made.set(value, tags=dict(labels))

    def observe(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        self._metric(spec).observe(value, tags=dict(labels))

    def _metric(self, spec: MetricSpec) -> Any:
        metrics = _ray_metrics()
        with self._lock:
            if spec.name not in self._metrics:
                if spec.kind == "counter":
                    made: Any = metrics.Counter(spec.name, spec.help, spec.labels)
                elif spec.kind == "gauge":
                    made = metrics.Gauge(spec.name, spec.help, spec.labels)
                else:
                    made = metrics.Histogram(spec.name, spec.help, list(spec.buckets), spec.labels)
                self._metrics[spec.name] = made
            return self._metrics[spec.name]


class BothSinks:
    """Takes each value twice."""

    def __init__(self, one: Sink, other: Sink) -> None:
        self._sinks = (one, other)

    def add(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        for sink in self._sinks:
            sink.add(spec, value, labels)

    def set(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        for sink in self._sinks:
            sink.set(spec, value, labels)

    def forget(self, spec: MetricSpec, labels: Mapping[str, str]) -> None:
        for sink in self._sinks:
            sink.forget(spec, labels)

    def observe(self, spec: MetricSpec, value: float, labels: Mapping[str, str]) -> None:
        for sink in self._sinks:
            sink.observe(spec, value, labels)


def _key(spec: MetricSpec, labels: Mapping[str, str]) -> tuple[str, ...]:
    return (spec.name, *(labels[name] for name in spec.labels))


def _ray_metrics() -> Any:
    """Ray's classes; Serve's own in a replica, which add the labels application, deployment and replica."""
    if "ray.serve" in sys.modules:
        from ray.serve import metrics as of_serve

        return of_serve
    from ray.util import metrics

    return metrics


_outside = PrometheusSink()
_inside = BothSinks(RaySink(), _outside)


def current_sink() -> Sink:
    """prometheus_client's default registry, and Ray's agent where this process has joined a cluster."""
    # Not `import ray`: it takes seconds, and a process that has not imported it has not joined either.
    ray = sys.modules.get("ray")
    return _inside if ray is not None and ray.is_initialized() else _outside
