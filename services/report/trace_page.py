"""A step as a timeline in one HTML file that needs no server: a lane for each thing that goes on beside
others."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from rlad_core.metric_specs import STAGES
from services.base.whole_files import whole
from services.report.traces import TracedSpan

_COLOURS = {
    "step": "#888888", "group": "#c8c8c8", "rollout": "#3274d9", "reference": "#8a8d0f",
    "teacher": "#e0752d", "verify": "#56a64b", "assemble": "#a352cc", "old_logprobs": "#c9a000",
    "update": "#e02f44", "weight_sync": "#2ba3a3", "sleep": "#2e4057",
}  # fmt: skip
_OTHER = "#7d6b5d"
_LANE_PX = 18


def lanes(spans: Sequence[TracedSpan]) -> list[tuple[str, TracedSpan]]:
    """Each span with its lane: as few for a name as there are spans of it at a time, in the order of a
    step."""
    ends: dict[str, list[float]] = defaultdict(list)
    placed = []
    for span in sorted(spans, key=lambda each: each.start):
        of_name = ends[span.name]
        free = next((lane for lane, end in enumerate(of_name) if end <= span.start), len(of_name))
        if free == len(of_name):
            of_name.append(span.end)
        else:
            of_name[free] = span.end
        placed.append((f"{span.name} {free + 1}", span))
    return placed


def write_trace_page(spans: Sequence[TracedSpan], title: str, file: Path) -> Path:
    """Write the page.

    Args:
        spans: the outermost one first; times are counted from its beginning.
        title: what it is of.
    """
    begin = spans[0].start
    placed = lanes(spans)
    figure = go.Figure()
    for name in sorted({span.name for span in spans}, key=_place):
        of_name = [(lane, span) for lane, span in placed if span.name == name]
        figure.add_bar(
            name=name,
            orientation="h",
            y=[lane for lane, _ in of_name],
            base=[span.start - begin for _, span in of_name],
            x=[span.seconds for _, span in of_name],
            marker={"color": _COLOURS.get(name, _OTHER), "line": {"width": 0.5, "color": "white"}},
            text=[str(span.facts.get("group", "")) for _, span in of_name],
            textposition="none",
            hovertext=[_told(span) for _, span in of_name],
            hoverinfo="text",
        )
    order = sorted({lane for lane, _ in placed}, key=lambda lane: _lane_place(lane), reverse=True)
    figure.update_layout(
        title={"text": title},
        barmode="overlay",
        template="plotly_white",
        height=160 + _LANE_PX * len(order),
        xaxis={"title": "seconds since the step began", "rangeslider": {"visible": False}},
        yaxis={"categoryorder": "array", "categoryarray": order, "automargin": True, "dtick": 1},
        legend={"traceorder": "normal"},
        hoverlabel={"align": "left"},
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file) as unfinished:
        figure.write_html(unfinished, include_plotlyjs=True, config={"displaylogo": False})
    return file


def _told(span: TracedSpan) -> str:
    facts = {key: value for key, value in span.facts.items() if key != "groups" and value not in ("", 0)}
    lines = [f"<b>{span.name}</b>{' FAILED' if span.failed else ''}", f"{span.seconds:.3f} s"]
    lines += [f"{key}: {value}" for key, value in facts.items()]
    return "<br>".join([*lines, f"process: {span.process}"])


def _place(name: str) -> tuple[int, str]:
    """Whole steps first, then a step's stages in their order, each followed by what its service does."""
    words = name.split()
    stage = {"verifier": "verify"}.get(words[0], words[0])
    order = ["step", "group", *(each for each in STAGES if each != "step")]
    return order.index(stage) if stage in order else len(order), name


def _lane_place(lane: str) -> tuple[tuple[int, str], int]:
    name, _, number = lane.rpartition(" ")
    return _place(name), int(number)
