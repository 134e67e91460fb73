"""A dashboard as people think of it: rows of panels, each with its queries and what they tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["timeseries", "stat", "bargauge", "table", "heatmap"]
Color = Literal["green", "yellow", "orange", "red"]

COLUMNS = 24
"""Width of a Grafana dashboard."""


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes:
        expr: PromQL with Grafana's variables.
        legend: name of each of its series, from their labels; of the column in a table.
        empty_when_well: why a healthy run has no data here; empty if it has.
        buckets: its series are a histogram's buckets, whose exemplars are shown too.
    """

    expr: str
    legend: str
    empty_when_well: str = ""
    buckets: bool = False


@dataclass(frozen=True)
class Threshold:
    """From `value` on the panel is drawn in `color`."""

    value: float
    color: Color


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what is measured.
        queries: one or more.
        unit: Grafana's id of the unit, such as s, percentunit, short.
        tells, normal, otherwise: what it tells, what is normal, what to do when it isn't.
        kind: how it is drawn.
        width: in columns.
        axis: what one unit is, where the unit's id does not say.
        stacked: series add up to something.
        low, high: ends of the axis.
        base: the colour below the first threshold.
        thresholds: rising.
        unjudged: why there are none: no number here is good or bad by itself.
        logarithmic: a step of the axis is a factor: times that lie far apart are read beside each other.
        words: what a number stands for, in place of it.
    """

    title: str
    queries: Sequence[Query]
    unit: str
    tells: str
    normal: str
    otherwise: str
    kind: Kind = "timeseries"
    width: int = 8
    axis: str = ""
    stacked: bool = False
    low: float | None = 0
    high: float | None = None
    base: Color = "green"
    thresholds: Sequence[Threshold] = ()
    unjudged: str = ""
    logarithmic: bool = False
    words: Mapping[int, tuple[str, Color]] = field(default_factory=dict)

    @property
    def instant(self) -> bool:
        """One value per series, at the end of the time range; a stat shows the last one of a line."""
        return self.kind in ("table", "bargauge")

    @property
    def height(self) -> int:
        """In Grafana's units of 30 pixels."""
        return 4 if self.kind == "stat" else 8


@dataclass(frozen=True)
class Row:
    """Panels under a title, in the order of reading.

    Attributes:
        closed: shown as its title alone until somebody opens it: panels that have data on some hardware only.
    """

    title: str
    panels: Sequence[Panel]
    closed: bool = False


@dataclass(frozen=True)
class Variable:
    """What people choose at the top of a dashboard.

    Attributes:
        name, label: in queries, and for people.
        query: PromQL's ``label_values(...)``; or the fixed values.
        several: more than one may be chosen, and All is the start.
        start: where not All.
    """

    name: str
    label: str
    query: str | Sequence[str]
    several: bool = True
    start: str = ""


@dataclass(frozen=True)
class Annotation:
    """Moments that all time series show as a line.

    Attributes:
        name: of the kind.
        expr: PromQL that has a value where it happens, and none elsewhere.
        title: with its series' labels.
    """

    name: str
    expr: str
    title: str
    color: Color


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; `uid` is part of its address and of its file's name."""

    uid: str
    title: str
    text: str
    variables: Sequence[Variable]
    rows: Sequence[Row]
    annotations: Sequence[Annotation] = ()

    @property
    def panels(self) -> list[Panel]:
        """Of all rows."""
        return [panel for row in self.rows for panel in row.panels]


@dataclass(frozen=True)
class Place:
    """Where something is drawn, in columns and units of height from the top left corner."""

    x: int
    y: int
    w: int
    h: int


def layout(rows: Sequence[Row]) -> list[tuple[Row, Place, list[tuple[Panel, Place]]]]:
    """Places of rows and their panels: left to right, and a new line where the width is used up."""
    placed = []
    y = 0
    for row in rows:
        title = Place(0, y, COLUMNS, 1)
        x, y, tallest = 0, y + 1, 0
        panels = []
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            panels.append((panel, Place(x, y, panel.width, panel.height)))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
        placed.append((row, title, panels))
    return placed
