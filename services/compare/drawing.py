"""One figure two ways: as a PNG, and as a piece of a page whose lines can be pointed at and switched off."""

from __future__ import annotations

from html import escape
from pathlib import Path
from textwrap import wrap

import plotly.graph_objects as go
from matplotlib.ticker import PercentFormatter

from services.compare.plots import Plot
from services.report.plots import BLUE, GREEN, INK, ORANGE, PURPLE, RED, SIZE, SKY, YELLOW, as_written, frame

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "#8C564B", YELLOW, "#7A5195", "#33373D")
_DASHES = ("solid", "dash", "dashdot")
"""plotly's names, for methods beyond the colours: so many rounds of them are told apart."""
_WIDE = 36
"""Characters of a line of the legend, which fit on a telephone."""
_COLUMNS = 3
"""Of a PNG's legend."""
_LEGEND = 130
"""Pixels of a page's legend at most; in a longer one the reader scrolls."""


def write_png(plot: Plot, file: Path) -> None:
    """Draw the means as lines with their bands."""
    figure, axes = frame(plot.title, plot.y_title)
    for line in plot.lines:
        colour, dash = style(line.number)
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            line.x,
            line.mean,
            color=colour,
            label="\n".join(as_written(each) for each in wrap(line.legend, _WIDE)),
            linewidth=1.6,
            linestyle="dashed" if dash == "dash" else dash,
            marker=_marker(len(line.x)),
        )
    axes.set_xlabel("\n".join([plot.x_title, *map(as_written, wrap(plot.remark, 100))]), color=INK)
    if plot.doubling:
        axes.set_xscale("log", base=2)
        axes.set_xticks(plot.doublings, [str(each) for each in plot.doublings])
    if plot.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    # Below, and the figure grows by it: beside the curves a long name leaves them no room.
    figure.legend(loc="outside lower left", ncols=_COLUMNS, frameon=False, fontsize=9)
    rows = -(-len(plot.lines) // _COLUMNS)
    lines = max(len(wrap(line.legend, _WIDE)) for line in plot.lines)
    figure.set_figheight(SIZE[1] + 0.2 * rows * lines)
    figure.savefig(file, format="png")


def to_html(plot: Plot) -> str:
    """A ``div`` and the script that fills it; the page has plotly's own script once."""
    figure = go.Figure()
    for line in plot.lines:
        colour, dash = style(line.number)
        band = [*line.high.tolist(), *line.low[::-1].tolist()]
        figure.add_scatter(
            x=[*line.x.tolist(), *line.x[::-1].tolist()],
            y=band,
            fill="toself",
            fillcolor=colour,
            opacity=0.15,
            mode="lines",  # else one of few points has markers
            line={"width": 0},
            hoverinfo="skip",
            legendgroup=line.label,
            showlegend=False,
        )
        figure.add_scatter(
            x=line.x.tolist(),
            y=line.mean.tolist(),
            name=_as_text(line.legend),
            legendgroup=line.label,  # with its band it is switched on and off
            mode="lines+markers" if _marker(len(line.x)) else "lines",
            line={"color": colour, "width": 2, "dash": dash},
            customdata=list(zip(line.low.tolist(), line.high.tolist(), strict=True)),
            hovertemplate=_hover(plot),
        )
    for line in plot.lines:
        for seed, values in zip(line.seeds, line.runs, strict=True):
            figure.add_scatter(
                x=line.x.tolist(),
                y=values.tolist(),
                name=_as_text(f"{line.label}, seed {seed}"),
                mode="lines",
                line={"color": style(line.number)[0], "width": 1, "dash": "dot"},
                visible="legendonly",  # one run among many is looked for, not met
                hovertemplate=f"%{{y:{_form(plot)}}}",
            )
    figure.update_layout(
        title={"text": plot.title, "x": 0},
        template="plotly_white",
        height=420 + _LEGEND,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "maxheight": _LEGEND,
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
        },
        xaxis={"title": plot.x_title}
        | ({"type": "log", "tickvals": plot.doublings} if plot.doubling else {}),
        yaxis={"title": plot.y_title, "tickformat": ".0%" if plot.percent else None},
        hovermode="x unified",
    )
    made: str = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=f"plot-{plot.name}", config={"displaylogo": False}
    )
    return made


def _as_text(name: str) -> str:
    """In lines, for plotly, which reads tags in it."""
    return "<br>".join(escape(each, quote=False) for each in wrap(name, _WIDE))


def style(number: int) -> tuple[str, str]:
    """Colour and dash of a method, by its number: the same in all figures of a report."""
    rounds, place = divmod(number, len(COLOURS))
    return COLOURS[place], _DASHES[rounds % len(_DASHES)]


def _hover(plot: Plot) -> str:
    form = _form(plot)
    return f"%{{y:{form}}} (%{{customdata[0]:{form}}} – %{{customdata[1]:{form}}})"


def _form(plot: Plot) -> str:
    return ".1%" if plot.percent else ".4g"


def _marker(points: int) -> str | None:
    """Few points are told apart; many are a line."""
    return "o" if points <= 15 else None
