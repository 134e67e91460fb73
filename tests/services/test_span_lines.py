"""Our lines against those that OpenTelemetry's own protobuf messages make."""

import base64
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from services.base.span_lines import line_of, resource_of

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_plain = st.one_of(_texts, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats())
_attributes = st.dictionaries(
    _texts.filter(bool), st.one_of(_plain, st.lists(_texts, max_size=3), st.lists(st.floats(), max_size=3))
)


class Traced:
    """A tracer of which the finished spans are kept."""

    def __init__(self) -> None:
        about = {"service.name": "rlad", "process.pid": 7, "of": ["a", "b"]}
        provider = TracerProvider(resource=Resource(about), shutdown_on_exit=False)
        self.kept = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.tracer = provider.get_tracer("rlad")

    def one(self) -> ReadableSpan:
        [finished] = self.kept.get_finished_spans()
        self.kept.clear()
        return finished


@pytest.fixture(scope="module")
def traced() -> Traced:
    return Traced()


def as_opentelemetry(span: ReadableSpan) -> Any:
    told = MessageToDict(encode_spans([span]), use_integers_for_enums=True)
    for of_resource in told["resourceSpans"]:
        for of_scope in of_resource["scopeSpans"]:
            for each in of_scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in each:
                        each[name] = base64.b64decode(each[name]).hex()
    return told


def check(span: ReadableSpan) -> None:
    line = line_of(span, resource_of(span.resource))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == as_opentelemetry(span)


@given(name=_texts.filter(bool), attributes=_attributes, kind=st.sampled_from(SpanKind))
def test_of_any_name_and_attributes(
    traced: Traced, name: str, attributes: dict[str, Any], kind: SpanKind
) -> None:
    with traced.tracer.start_as_current_span(name, attributes=attributes, kind=kind):
        pass
    check(traced.one())


@pytest.mark.parametrize("remote", [False, True])
def test_of_a_parent_here_or_in_another_process(traced: Traced, remote: bool) -> None:
    parent = trace.SpanContext(2**127 + 5, 9, is_remote=remote, trace_flags=trace.TraceFlags(1))
    under = trace.set_span_in_context(trace.NonRecordingSpan(parent))
    with traced.tracer.start_as_current_span("child", context=under):
        pass
    check(traced.one())


def test_of_an_exception_and_a_status(traced: Traced) -> None:
    with pytest.raises(ValueError, match="no"), traced.tracer.start_as_current_span("fails"):
        raise ValueError("no such thing")
    check(traced.one())
    with traced.tracer.start_as_current_span("is well") as span:
        span.set_status(Status(StatusCode.OK))
        span.add_event("seen")
    check(traced.one())
