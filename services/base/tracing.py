"""OpenTelemetry spans: a trace for each step of a run, over all of its processes.

Where OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is set, they go there as OTLP over
HTTP. Elsewhere every process appends them to a file of its own in ``RUN/traces/``, a line of OTLP's JSON
each, which `rlad trace` draws and any collector reads.

A step's trace has an id that every process works out for itself from the run and the step, so that the
learner's ranks and the process that collects experience write one trace without having met. Deployments are
told by what they are sent: `carry` puts the span that asks, and the folder, into the metadata of an Arrow
table, and `carried` takes it out.
"""

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pyarrow as pa

from services.base.span_lines import line_of, resource_of

_CARRIED = b"rlad.trace"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_ids: ContextVar[tuple[int, int] | None] = ContextVar("ids", default=None)
"""Of trace and span of the next span, where they have to be certain ones."""


class _Process:
    """The tracer of this process, and where its spans go; neither until tracing begins."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tracer: Any = None
        self.folder: Path | None = None


_process = _Process()


def begin(run: str, folder: Path | None) -> None:
    """Trace from now on; a second call changes nothing.

    Args:
        run: for the resource that the spans are of.
        folder: of the files, where no OTLP endpoint is named; None: then nothing is traced.
    """
    to_collector = any(os.environ.get(name) for name in _ENDPOINTS)
    with _process.lock:
        if _process.tracer is not None or (folder is None and not to_collector):
            return
        _process.folder = None if to_collector else folder
        _process.tracer = _tracer(run, _process.folder)


def end() -> None:
    """Send what is left, and trace no more: for tests, and before a process ends."""
    with _process.lock:
        if _process.tracer is not None:
            _process.tracer.provider.shutdown()
            _process.tracer = None
            _process.folder = None


class _Tracer:
    """A tracer with the provider that it belongs to."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider
        self.tracer = provider.get_tracer("rlad")


def _tracer(run: str, folder: Path | None) -> _Tracer:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            wanted = _ids.get()
            return super().generate_trace_id() if wanted is None else wanted[0]

        def generate_span_id(self) -> int:
            wanted = _ids.get()
            return super().generate_span_id() if wanted is None else wanted[1]

    about: dict[str, Any] = {
        "service.name": "rlad",
        "rlad.run": run,
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    provider = TracerProvider(resource=Resource.create(about), id_generator=Ids())
    if folder is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        # Written at once: a process of a run is ended without a word, and what waits in a queue would be
        # lost.
        provider.add_span_processor(SimpleSpanProcessor(_file_exporter(folder, provider.resource)))
    return _Tracer(provider)


def _file_exporter(folder: Path, resource: Any) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"{socket.gethostname()}-{os.getpid()}.jsonl").open("ab", buffering=0)
    ours = resource_of(resource)

    class FileExporter(SpanExporter):
        def export(self, spans: Sequence[Any]) -> Any:
            for span in spans:
                file.write(line_of(span, ours))
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            file.close()

    return FileExporter()


def step_ids(run: str, step: int) -> tuple[int, int]:
    """The ids of a step's trace and of its outermost span, the same in every process."""
    hashed = hashlib.blake2b(f"{run}\0{step}".encode(), digest_size=24).digest()
    return int.from_bytes(hashed[:16], "big") or 1, int.from_bytes(hashed[16:], "big") or 1


@contextlib.contextmanager
def of_step(run: str, step: int) -> Iterator[None]:
    """Spans that begin inside belong to this step's trace, whatever process they are in."""
    if _process.tracer is None:
        yield
        return
    trace_id, span_id = step_ids(run, step)
    with _under(trace_id, span_id):
        yield


@contextlib.contextmanager
def span(
    name: str, facts: Mapping[str, Any], *, outermost_of: tuple[str, int] | None = None
) -> Iterator[Any]:
    """An OpenTelemetry span around the block; None where nothing is traced. An exception is recorded, and
    passes.

    Args:
        facts: attributes; those that are no text, number or list of them are written as text.
        outermost_of: run and step whose outermost span this is.
    """
    if _process.tracer is None:
        yield None
        return
    attributes = {f"rlad.{key}": _plain(value) for key, value in facts.items() if value is not None}
    tracer = _process.tracer.tracer
    if outermost_of is None:
        with tracer.start_as_current_span(name, attributes=attributes) as opened:
            yield opened
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import use_span

    fixed = _ids.set(step_ids(*outermost_of))
    outermost = tracer.start_span(name, context=Context(), attributes=attributes)
    _ids.reset(fixed)
    with use_span(outermost, end_on_exit=True):
        yield outermost


def opened(name: str) -> Callable[[BaseException | None], None]:
    """Begin a span under the current one, which stays current.

    Returns:
        Ends the span, with the exception that it ended by; in any task or thread.
    """
    if _process.tracer is None:
        return lambda error: None
    begun = _process.tracer.tracer.start_span(name)

    def end(error: BaseException | None) -> None:
        if isinstance(error, Exception):
            from opentelemetry.trace import Status, StatusCode

            begun.record_exception(error)
            begun.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        begun.end()

    return end


def note(**facts: Any) -> None:
    """Attributes of the current span that are known only now."""
    if _process.tracer is not None:
        from opentelemetry import trace

        for key, value in facts.items():
            trace.get_current_span().set_attribute(f"rlad.{key}", _plain(value))


def trace_id() -> str | None:
    """The current trace's id in hexadecimal digits; None: there is none."""
    if _process.tracer is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def span_id() -> str | None:
    """The current span's id in hexadecimal digits; None: there is none."""
    if _process.tracer is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return f"{context.span_id:016x}" if context.is_valid else None


def carry(value: Any) -> Any:
    """An Arrow table with the current span in its metadata; anything else, or without a span, as it is."""
    if _process.tracer is None or not isinstance(value, pa.Table):
        return value
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return value
    told = f"{context.trace_id:032x}-{context.span_id:016x} {_process.folder or ''}"
    return value.replace_schema_metadata({**(value.schema.metadata or {}), _CARRIED: told.encode()})


@contextlib.contextmanager
def carried(value: Any, run: str) -> Iterator[Any]:
    """Spans that begin inside are children of the one that `carry` put into a table, which comes without it.

    A process that does not trace yet begins to, with the folder that came along, if it has that.
    """
    told = (value.schema.metadata or {}).get(_CARRIED) if isinstance(value, pa.Table) else None
    if told is None:
        yield value
        return
    ids, _, folder = told.decode().partition(" ")
    if _process.tracer is None:
        # A pod without the volume of the runs has no such folder, and nothing to write to.
        begin(run, Path(folder) if folder and Path(folder).is_dir() else None)
    rest = {key: kept for key, kept in value.schema.metadata.items() if key != _CARRIED}
    value = value.replace_schema_metadata(rest or None)
    if _process.tracer is None:
        yield value
        return
    trace_of, _, span_of = ids.partition("-")
    with _under(int(trace_of, 16), int(span_of, 16)):
        yield value


@contextlib.contextmanager
def _under(trace_id: int, span_id: int) -> Iterator[None]:
    from opentelemetry import context, trace

    parent = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(1))
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    try:
        yield
    finally:
        context.detach(token)


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, str | int | float) for each in value):
        return list(value)
    return str(value)
