"""A step's trace, read from the files that the run's processes wrote (`services.base.tracing`)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.report.record_lines import LinesError, read_lines
from services.report.records import ReportError

FOLDER = "traces"


@dataclass(frozen=True)
class TracedSpan:
    """One span.

    Attributes:
        span_id, parent_id: in hexadecimal digits; the outermost one has no parent.
        start, end: seconds since the epoch.
        facts: its attributes, without ``rlad.``.
        process: host and process id.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: float
    end: float
    facts: dict[str, Any]
    process: str
    failed: bool

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


def read_spans(run_dir: Path) -> list[TracedSpan]:
    """All spans of a run, in the order of their beginnings.

    Raises:
        ReportError: it has none; or a line that is no span, other than a last one that a kill has cut off.
    """
    files = sorted((run_dir / FOLDER).glob("*.jsonl"))
    if not files:
        raise ReportError(
            f"{run_dir} has no traces. They are written where telemetry.traces is true and no "
            "OTEL_EXPORTER_OTLP_ENDPOINT takes them"
        )
    found = [span for file in files for span in _of_file(file)]
    return sorted(found, key=lambda span: span.start)


def _of_file(file: Path) -> Iterator[TracedSpan]:
    try:
        lines = read_lines(file)
    except LinesError as error:
        raise ReportError(str(error)) from error
    for number, told in lines.by_number.items():
        try:
            for of_resource in told["resourceSpans"]:
                about = _attributes(of_resource["resource"].get("attributes", ()))
                process = f"{about.get('host.name', '')} {about.get('process.pid', '')}"
                for of_scope in of_resource["scopeSpans"]:
                    yield from (_span(each, process) for each in of_scope["spans"])
        except (AttributeError, ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{file}, line {number} is no span: {error}") from error


def _span(told: dict[str, Any], process: str) -> TracedSpan:
    facts = _attributes(told.get("attributes", ()))
    return TracedSpan(
        told["name"],
        told["traceId"],
        told["spanId"],
        told.get("parentSpanId", ""),
        int(told["startTimeUnixNano"]) / 1e9,
        int(told["endTimeUnixNano"]) / 1e9,
        {key.removeprefix("rlad."): value for key, value in facts.items()},
        process,
        told.get("status", {}).get("code") == 2,
    )


def _attributes(told: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: _value(each["value"]) for each in told}


def _value(told: dict[str, Any]) -> Any:
    [(kind, value)] = told.items()
    if kind == "arrayValue":
        return [_value(each) for each in value.get("values", ())]
    return int(value) if kind == "intValue" else value


def of_step(spans: Iterable[TracedSpan], step: int) -> list[TracedSpan]:
    """The spans of a step, the outermost one first. Of a step that was done twice, the last time.

    Raises:
        ReportError: it is not there; the message says which are.
    """
    spans = list(spans)
    outermost = [span for span in spans if span.name == "step" and not span.parent_id]
    there = {int(span.facts["step"]): span for span in outermost}
    if step not in there:
        known = ", ".join(map(str, sorted(there))) or "none"
        raise ReportError(f"there is no trace of step {step}. There are those of {known}")
    whole = there[step]
    earlier = [each.end for each in outermost if each.span_id == whole.span_id and each is not whole]
    own = [
        span
        for span in spans
        if span.trace_id == whole.trace_id
        and span not in outermost
        and span.start >= max(earlier, default=0.0)
    ]
    # A group may have been begun ahead of its step, in a trace of its own: the assembly names the step's.
    named = {group for span in own if span.name == "assemble" for group in _groups(span)}
    begun = {s.facts.get("group"): s for s in spans if s.name == "group" and s.start <= whole.end}
    theirs = {begun[group].span_id for group in named if group in begun}
    strangers = {span.span_id for span in own if span.name == "group"} - theirs
    inside = _below(spans, theirs)
    outside = _below(own, strangers) if named else set()
    kept = {span.span_id for span in own if span.span_id not in outside} | inside
    return [whole, *(span for span in spans if span.span_id in kept)]


def _groups(assemble: TracedSpan) -> list[str]:
    return [*assemble.facts.get("groups", ()), *assemble.facts.get("dropped", ())]


def _below(spans: Iterable[TracedSpan], roots: set[str]) -> set[str]:
    """Ids of the spans below these, and their own. A child begins after its parent."""
    found = set(roots)
    for span in spans:
        if span.parent_id in found:
            found.add(span.span_id)
    return found


def of_group(spans: list[TracedSpan], group: str) -> list[TracedSpan]:
    """What happened to one prompt's group: its own spans and all below them, those of calls that it went
    along with (`services.clients.shared_calls`), and those that whole steps have.

    Raises:
        ReportError: the step has no such group; the message says which it has.
    """
    roots = [span for span in spans if span.name == "group" and span.facts.get("group") == group]
    if not roots:
        known = sorted(str(span.facts.get("group")) for span in spans if span.name == "group")
        raise ReportError(f"the step has no group {group}. It has {', '.join(known[:8])}, ...")
    others = {span.span_id for span in spans if span.name == "group" and span not in roots}
    below = _below(spans, others)
    callers = {s.facts["asked_with"] for s in spans if s.span_id not in below and "asked_with" in s.facts}
    shared = _below(spans, callers) - callers
    return [span for span in spans if span.span_id in shared or span.span_id not in below]
