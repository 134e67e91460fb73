"""Spans and metrics: every stage is a `span`, and from it come the histogram, the exact seconds, the log line
and the step's stage table (`rlad_core.timeline`).

The declarations in `rlad_core.metrics` are recorded through Ray's metrics agent in a process that has joined
a Ray cluster, and through prometheus_client everywhere else (command line, clients, benchmarks).

Example:
    >>> with span("teacher", items=1) as work:
    ...     scores = [0.0, 0.0]
    ...     work.tokens = len(scores)
"""

import contextlib
import contextvars
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from rlad_core import metrics
from rlad_core.client.errors import ServiceError
from rlad_core.metric_specs import SHARED, STAGES, Kind, MetricSpec, StepStage
from rlad_core.timeline import StageSpan
from services.base import log_lines, span_collector, tracing
from services.base.metric_sinks import current_sink


class _Process:
    """What this process has been told, and what is open in it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.run = SHARED
        self.open: Counter[tuple[str, ...]] = Counter()


_process = _Process()


def name_run(run: str) -> None:
    """Say which run this process works for: the label `run` of all that it records from now on."""
    _process.run = run


def run_name() -> str:
    """The run that this process works for."""
    return _process.run


def count(spec: MetricSpec, value: float = 1.0, **labels: str) -> None:
    """Raise a counter by `value`; the label `run` is filled in where it is not given."""
    complete = _complete(spec, "counter", labels)
    if value < 0:
        raise ValueError(f"{spec.name} is a counter and cannot rise by {value}")
    if value:  # Ray refuses a rise of 0
        current_sink().add(spec, value, complete)


def gauge(spec: MetricSpec, value: float, **labels: str) -> None:
    """Set a gauge; the label `run` is filled in where it is not given."""
    current_sink().set(spec, value, _complete(spec, "gauge", labels))


def forget(spec: MetricSpec, **labels: str) -> None:
    """Say a gauge no more; it stays at its last value otherwise, for as long as the process lives."""
    current_sink().forget(spec, _complete(spec, "gauge", labels))


def observe(spec: MetricSpec, value: float, **labels: str) -> None:
    """Put one value into a histogram; the label `run` is filled in where it is not given."""
    current_sink().observe(spec, value, _complete(spec, "histogram", labels))


def waiting(stage: StepStage, change: int) -> None:
    """Say that `change` items more, or fewer, wait for a stage to take them."""
    _change_open(metrics.STAGE_QUEUE, change, stage=stage)


def nothing_waits() -> None:
    """Say that what waited for stages is gone, and will be made anew."""
    with _process.lock:
        counts = {key[1]: count for key, count in _process.open.items() if key[0] == metrics.STAGE_QUEUE.name}
    for stage, count in counts.items():
        _change_open(metrics.STAGE_QUEUE, -count, stage=stage)


class span:
    """Time one piece of a stage's work, in `with` or `async with`.

    Set `items` and `tokens` inside where they are not known before. On leaving, the latency, the seconds, the
    items and tokens and the number of open spans are recorded, one line is logged, and the span goes to the
    collectors. An exception passes through: it is counted by its class, and its items and tokens are not.

    Args:
        stage: one of `rlad_core.metric_specs.STAGES`.
        items, tokens: what the span works on.
        behind: see `rlad_core.timeline.StageSpan`.
        facts: more fields for the log line and the trace (step, group, ...); they do not become labels. The
            stage `step` with its step and rank 0 is the outermost span of the step's trace.
    """

    def __init__(
        self, stage: StepStage, *, items: int = 0, tokens: int = 0, behind: bool = False, **facts: Any
    ) -> None:
        if stage not in STAGES:
            raise ValueError(f"{stage!r} is not a stage; stages are {', '.join(STAGES)}")
        self.stage: StepStage = stage
        self.items, self.tokens, self.behind, self.facts = items, tokens, behind, facts
        #: Length, known after leaving.
        self.seconds = 0.0

    def __enter__(self) -> Self:
        whole = self.stage == "step" and self.facts.get("rank") == 0 and "step" in self.facts
        outermost_of = (_process.run, int(self.facts["step"])) if whole else None
        self._traced = tracing.span(self.stage, self.facts, outermost_of=outermost_of)
        self._traced.__enter__()
        _change_open(metrics.STAGE_IN_FLIGHT, +1, stage=self.stage)
        self._start, self._clock = time.time(), time.perf_counter()
        span_collector.begun(self)
        return self

    def until(self, now: float) -> StageSpan:
        """What there is of it by now (seconds since the epoch); what it works on is not finished."""
        return StageSpan(self.stage, self._start, max(now, self._start), behind=self.behind)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The length comes from the steady clock; the wall clock only places it among other processes' spans.
        self.seconds = time.perf_counter() - self._clock
        _change_open(metrics.STAGE_IN_FLIGHT, -1, stage=self.stage)
        observe(metrics.STAGE_DURATION, self.seconds, stage=self.stage)
        count(metrics.STAGE_SECONDS, self.seconds, stage=self.stage)
        fields = {"stage": self.stage, "seconds": round(self.seconds, 6), **self.facts}
        if kind is None:
            count(metrics.STAGE_ITEMS, self.items, stage=self.stage)
            count(metrics.STAGE_TOKENS, self.tokens, stage=self.stage)
            log("stage", items=self.items, tokens=self.tokens, **fields)
        else:
            count(metrics.STAGE_ERRORS, stage=self.stage, kind=kind.__name__)
            log("stage_failed", level="warning", kind=kind.__name__, error=str(error), **fields)
        done = StageSpan(
            self.stage,
            self._start,
            self._start + self.seconds,
            items=self.items if kind is None else 0,
            tokens=self.tokens if kind is None else 0,
            failed=kind is not None,
            behind=self.behind,
        )
        span_collector.ended(self, done)
        tracing.note(items=self.items, tokens=self.tokens)
        self._traced.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


@contextlib.contextmanager
def request(service: str, kind: str) -> Iterator[None]:
    """Time one call to a service; an exception is counted, with the limit that it tells of, and passes.

    Args:
        service: the label of that name.
        kind: see `rlad_core.metrics.SERVICE_REQUESTS`.
    """
    clock = time.perf_counter()
    count(metrics.SERVICE_REQUESTS, service=service, kind=kind)
    _change_open(metrics.SERVICE_IN_FLIGHT, +1, service=service)
    with tracing.span(f"{service} service", {"kind": kind}):
        try:
            yield
        except BaseException as error:
            count(metrics.SERVICE_ERRORS, service=service, kind=type(error).__name__)
            if isinstance(error, ServiceError) and error.limit is not None:
                count(metrics.SERVICE_LIMITS, service=service, kind=error.limit)
            raise
        finally:  # within the span: the bucket's exemplar is its trace
            seconds = time.perf_counter() - clock
            _change_open(metrics.SERVICE_IN_FLIGHT, -1, service=service)
            observe(metrics.SERVICE_DURATION, seconds, service=service)
            count(metrics.SERVICE_SECONDS, seconds, service=service)


class phase:
    """Time one phase of a call, in `with`: queue, decode, engine or encode.

    Args:
        service: whose call it is.
        name: of the phase; `change` ends it and begins the next one, and may be called in another task or
            thread: both are the call's all the same.
    """

    def __init__(self, service: str, name: str) -> None:
        self.service, self.name = service, name
        self._lock = threading.Lock()
        self._is_over = False

    def __enter__(self) -> Self:
        self._context = contextvars.copy_context()
        self._context.run(self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_over = True
            self._context.run(self._end, error)

    def change(self, name: str) -> None:
        """From now on it is phase `name`; nothing changes where it is, or the call was given up meanwhile."""
        with self._lock:
            if self._is_over or name == self.name:
                return
            self._context.run(self._end, None)
            self.name = name
            self._context.run(self._begin)

    def _begin(self) -> None:
        self._ended = tracing.opened(f"{self.service} {self.name}")
        self._clock = time.perf_counter()

    def _end(self, error: BaseException | None) -> None:
        seconds = time.perf_counter() - self._clock
        observe(metrics.SERVICE_PHASE_DURATION, seconds, service=self.service, phase=self.name)
        count(metrics.SERVICE_PHASE_SECONDS, seconds, service=self.service, phase=self.name)
        self._ended(error)


def log(event: str, *, level: str = "info", **fields: Any) -> None:
    """One log line with the run's name, see `services.base.log_lines`."""
    log_lines.write(event, level=level, run=_process.run, **fields)


def _change_open(spec: MetricSpec, change: int, **labels: str) -> None:
    """Move a gauge up or down; Ray's gauges can only be set, so the number is kept here."""
    key = (spec.name, *labels.values())
    with _process.lock:
        _process.open[key] += change
        # Set inside the lock: two threads must not write their numbers in the wrong order.
        gauge(spec, _process.open[key], **labels)


def _complete(spec: MetricSpec, kind: Kind, labels: dict[str, str]) -> dict[str, str]:
    if spec.kind != kind:
        raise ValueError(f"{spec.name} is a {spec.kind}, not a {kind}")
    if "run" in spec.labels:
        labels = {"run": _process.run, **labels}
    if set(labels) != set(spec.labels):
        raise ValueError(f"{spec.name} has the labels {spec.labels}, got {sorted(labels)}")
    return labels
