"""Draws a dashboard's panels from queried data, laid out as in Grafana: to see what people will see."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from PIL import Image

from deploy.grafana.answers import Answer, View, substitute
from deploy.grafana.model import COLUMNS, Dashboard, Panel, Place, layout
from deploy.grafana.units import shown

_COLUMN, _LINE = 0.75, 0.34
"""Inches of a column, and of a unit of height."""
_COLORS = (
    "#3274d9",
    "#e0752d",
    "#56a64b",
    "#a352cc",
    "#e02f44",
    "#c9a000",
    "#2ba3a3",
    "#7d6b5d",
    "#8ab8ff",
    "#ff9830",
)
_NAMED = {"green": "#3b8f3b", "yellow": "#c9a000", "orange": "#e0752d", "red": "#c4162a"}
_LEGEND_ENTRIES = 9
_LEGEND_COLUMNS = 3
_QUIET = {"size": 7, "color": "#555555"}


def draw(dashboard: Dashboard, answers: Mapping[str, Sequence[Answer]], view: View, file: Path) -> None:
    """Write a PNG of the dashboard.

    Args:
        dashboard: whose panels.
        answers: by the panels' titles.
        view: the time range, and values of the variables in titles.
        file: to write.
    """
    rows = layout(dashboard.rows)
    height = max(where.y + where.h for _, _, panels in rows for _, where in panels) + 2
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 7, "axes.linewidth": 0.5}):
        figure = Figure(figsize=(COLUMNS * _COLUMN, height * _LINE), facecolor="#f4f5f5")
        figure.text(0.01, 1 - 1.2 / height, dashboard.title, size=13, weight="bold")
        for row, title, panels in rows:
            figure.text(
                0.01, 1 - (title.y + 2.7) / height, row.title, size=10, weight="bold", color="#333333"
            )
            for panel, where in panels:
                _panel(figure, panel, where, height, answers[panel.title], view)
        picture = BytesIO()
        figure.savefig(picture, dpi=80, format="png")
    # Few colours are used, so a palette keeps it small.
    Image.open(picture).convert("RGB").quantize(128).save(file, optimize=True)


def _panel(
    figure: Figure, panel: Panel, where: Place, height: int, answers: Sequence[Answer], view: View
) -> None:
    left, top = where.x / COLUMNS, 1 - (where.y + 2) / height
    frame = figure.add_axes(
        (
            left + 0.003,
            top - where.h / height + 0.1 / height,
            where.w / COLUMNS - 0.006,
            (where.h - 0.2) / height,
        )
    )
    frame.set(xticks=[], yticks=[], facecolor="white")
    for side in frame.spines.values():
        side.set_color("#dddddd")
    title = substitute(panel.title, {"percentile": view.chosen.get("percentile", "p95")})
    frame.text(
        0.01,
        1 - 0.35 / where.h,
        title,
        transform=frame.transAxes,
        va="top",
        size=8.5,
        weight="bold",
        color="#222222",
    )
    if not any(answer.series for answer in answers):
        reason = f"No data\n{panel.queries[0].empty_when_well}"
        frame.text(0.5, 0.4, reason, transform=frame.transAxes, ha="center", color="#888888", size=8)
        return
    body = (0.01, 0.02, 0.98, 1 - 1.4 / where.h)
    if panel.kind == "timeseries":
        entries = min(_LEGEND_ENTRIES, sum(len(answer.series) for answer in answers))
        bottom = (1.1 + 0.42 * ceil(entries / _LEGEND_COLUMNS)) / where.h
        left = 0.06 + 0.3 / where.w
        place = (left, bottom, 0.98 - left, 1 - bottom - 1.3 / where.h)
        _lines(frame, frame.inset_axes(place), panel, answers, view)
    elif panel.kind == "stat":
        _stat(frame.inset_axes(body), panel, answers)
    elif panel.kind == "heatmap":
        _heatmap(frame.inset_axes((0.12, 0.14, 0.86, 1 - 2.6 / where.h)), panel, answers, view)
    elif panel.kind == "bargauge":
        _bars(frame.inset_axes(body), panel, answers)
    else:
        _table(frame.inset_axes(body), panel, answers)


def _series(answers: Sequence[Answer]) -> list[tuple[str, list[tuple[float, float]]]]:
    found = [(name or "value", one.points) for answer in answers for name, one in answer.series]
    return sorted(found, key=lambda named: named[0])


def _lines(frame: Any, axes: Any, panel: Panel, answers: Sequence[Answer], view: View) -> None:
    series = _series(answers)
    colors = dict(zip((name for name, _ in series), cycle(_COLORS)))
    if panel.logarithmic:
        axes.set_yscale("log")
    if panel.stacked:
        times = sorted({time for _, points in series for time, _ in points})
        values = [[dict(points).get(time, 0.0) for time in times] for _, points in series]
        axes.stackplot(
            times,
            values,
            labels=[n for n, _ in series],
            colors=list(colors.values()),
            alpha=0.75,
        )
    else:
        for name, points in series:
            axes.plot(
                [t for t, _ in points],
                [v for _, v in points],
                lw=1.1,
                label=name,
                color=colors[name],
                marker="." if len(points) < 3 else None,
            )
    for threshold in panel.thresholds:
        if threshold.value < 3 * axes.get_ylim()[1]:
            axes.axhline(threshold.value, color=threshold.color, lw=0.8, ls="--")
    axes.set_xlim(view.start_s, view.end_s)
    low, high = axes.get_ylim()
    if all(value == 0 for _, points in series for _, value in points):
        high = 1
    if not panel.logarithmic:
        axes.set_ylim(low if panel.low is None else panel.low, high if panel.high is None else panel.high)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, panel.unit)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value)))
    axes.set_ylabel(panel.axis, **_QUIET)
    axes.grid(lw=0.3, color="#dddddd")
    for side in axes.spines.values():
        side.set_color("#cccccc")
    axes.tick_params(labelsize=6.5, colors="#555555", length=2)
    handles, names = axes.get_legend_handles_labels()
    more = len(names) - _LEGEND_ENTRIES
    if more > 0:
        handles, names = handles[:_LEGEND_ENTRIES], [*names[: _LEGEND_ENTRIES - 1], f"and {more + 1} more"]
    axes.legend(
        handles,
        names,
        loc="lower left",
        bbox_to_anchor=(0, 0),
        bbox_transform=frame.transAxes,
        ncols=_LEGEND_COLUMNS,
        fontsize=6,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.0,
        labelspacing=0.25,
    )


def _stat(axes: Any, panel: Panel, answers: Sequence[Answer]) -> None:
    axes.axis("off")
    series = _series(answers)
    for place, (name, points) in enumerate(series):
        x = (place + 0.5) / len(series)
        axes.text(
            x,
            0.5,
            said(panel, points[-1][1]),
            transform=axes.transAxes,
            ha="center",
            va="center",
            size=15,
            color=_color(panel, points[-1][1]),
        )
        axes.text(x, 0.1, name, transform=axes.transAxes, ha="center", va="center", **_QUIET)


def _heatmap(axes: Any, panel: Panel, answers: Sequence[Answer], view: View) -> None:
    """A row for each series, a cell for each moment, darker where its value is larger."""
    series = _series(answers)
    times = sorted({time for _, points in series for time, _ in points})
    values = [[dict(points).get(time, float("nan")) for time in times] for _, points in series]
    drawn = axes.pcolormesh(
        [*times, times[-1] + view.step_s], range(len(series) + 1), values, cmap="Oranges", vmin=0
    )
    axes.set_yticks([place + 0.5 for place in range(len(series))], [name for name, _ in series])
    axes.set_xlim(view.start_s, view.end_s)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value)))
    axes.tick_params(labelsize=6.5, colors="#555555", length=2)
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.01, fraction=0.03)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, panel.unit)))
    bar.ax.tick_params(labelsize=6, colors="#555555", length=2)


def _bars(axes: Any, panel: Panel, answers: Sequence[Answer]) -> None:
    series = _series(answers)
    values = [points[-1][1] for _, points in series]
    axes.axis("off")
    axes.set_xlim(-0.6 * max(*values, 1e-9), 1.25 * max(*values, 1e-9))
    axes.set_ylim(len(series) - 0.4, -0.6)
    for place, ((name, _), value) in enumerate(zip(series, values, strict=True)):
        axes.barh(place, value, height=0.6, color=_color(panel, value), alpha=0.8)
        axes.text(-0.02 * max(*values, 1e-9), place, name, ha="right", va="center", **_QUIET)
        axes.text(value, place, f" {shown(value, panel.unit)}", ha="left", va="center", size=7)


def _table(axes: Any, panel: Panel, answers: Sequence[Answer]) -> None:
    axes.axis("off")
    cells: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for answer in answers:
        for _, one in answer.series:
            cells.setdefault(tuple(sorted(one.labels.items())), {})[answer.query.legend] = one.points[-1][1]
    labels = sorted({label for key in cells for label, _ in key})
    columns = [answer.query.legend for answer in answers]
    text = [
        [dict(key).get(label, "") for label in labels]
        + [shown(row[c], panel.unit) if c in row else "" for c in columns]
        for key, row in sorted(cells.items())
    ]
    table = axes.table(
        cellText=text, colLabels=[*labels, *columns], loc="upper center", cellLoc="left", edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    for cell in table.get_celld().values():
        cell.set_edgecolor("#dddddd")
        cell.set_height(1 / max(11, len(text) + 1))


def said(panel: Panel, value: float) -> str:
    """A value as the panel shows it: what it stands for, or the number with its unit."""
    return panel.words[int(value)][0] if value in panel.words else shown(value, panel.unit)


def _color(panel: Panel, value: float) -> str:
    if value in panel.words:
        return _NAMED[panel.words[int(value)][1]]
    passed = [t.color for t in panel.thresholds if value >= t.value]
    return _NAMED[passed[-1] if passed else panel.base]


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")
