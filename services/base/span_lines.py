"""A finished span as a line of OTLP's JSON (opentelemetry-proto, `trace.proto`, JSON with hexadecimal ids).

OpenTelemetry's own protobuf messages, written as JSON, are the same text at many times the work, for each
of the hundreds of spans of a step; the tests hold one against the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan

_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200
"""Bits of `SpanFlags`: whether it is known that the parent is another process's, and whether it is."""


def resource_of(resource: Resource) -> dict[str, Any]:
    """What all spans of a process share, once for all of its lines."""
    return _with_attributes({}, resource.attributes)


def line_of(span: ReadableSpan, resource: Mapping[str, Any]) -> bytes:
    """One line, which any OTLP reader takes for a request of one span. Links are left out: nothing makes any.

    Args:
        resource: of `resource_of`.
    """
    scope = span.instrumentation_scope
    of_scope = {"scope": {} if scope is None else {"name": scope.name}, "spans": [_span(span)]}
    told = {"resourceSpans": [{"resource": resource, "scopeSpans": [of_scope]}]}
    return json.dumps(told).encode() + b"\n"


def _span(span: ReadableSpan) -> dict[str, Any]:
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    told: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,  # the protocol's 0 is that nobody said it
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "status": {},
        "flags": _HAS_IS_REMOTE,
    }
    if parent is not None:
        told["parentSpanId"] = f"{parent.span_id:016x}"
        told["flags"] |= _IS_REMOTE * parent.is_remote
    if span.status.status_code.value:
        told["status"]["code"] = span.status.status_code.value
    if span.status.description:
        told["status"]["message"] = span.status.description
    if span.events:
        told["events"] = [_event(event) for event in span.events]
    return _with_attributes(told, span.attributes)


def _event(event: Event) -> dict[str, Any]:
    told = {"name": event.name, "timeUnixNano": str(event.timestamp)}
    return _with_attributes(told, event.attributes)


def _with_attributes(told: dict[str, Any], attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    if attributes:
        told["attributes"] = [{"key": key, "value": _value(value)} for key, value in attributes.items()]
    return told


def _value(value: str | bool | int | float | Sequence[Any]) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # 64 bits are more than JSON's numbers hold
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _not_finite(value)}
    return {"arrayValue": {"values": [_value(each) for each in value]} if value else {}}


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
