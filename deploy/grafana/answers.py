"""What a Prometheus answers to a dashboard's queries, as Grafana would ask them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploy.grafana.model import Dashboard, Panel, Query
from deploy.prometheus.server import Prometheus, Series

_POINTS = 300


@dataclass(frozen=True)
class View:
    """What is looked at.

    Attributes:
        start_s, end_s: the time range, in seconds since the epoch.
        chosen: variable -> value; all others stand at their start, which is All.
        rate_interval_s: Grafana's $__rate_interval, four times the scrape interval and a scrape.
    """

    start_s: float
    end_s: float
    chosen: Mapping[str, str] = field(default_factory=dict)
    rate_interval_s: float = 60.0

    @property
    def step_s(self) -> float:
        """Between two points of a line."""
        return max(1.0, (self.end_s - self.start_s) / _POINTS)


@dataclass(frozen=True)
class Answer:
    """Series of a query; of each its name, and (seconds since the epoch, value)."""

    query: Query
    expr: str
    series: Sequence[tuple[str, Series]]


def ask(prometheus: Prometheus, dashboard: Dashboard, view: View) -> dict[str, list[Answer]]:
    """Answers of all panels, by the panels' titles.

    Raises:
        QueryError: Prometheus refuses a query.
    """
    values = _values(dashboard, view)
    return {
        panel.title: [_ask(prometheus, panel, q, values, view) for q in panel.queries]
        for panel in dashboard.panels
    }


def choices(prometheus: Prometheus, dashboard: Dashboard, view: View) -> dict[str, list[str]]:
    """What each variable that is a query offers, with the others as chosen.

    Raises:
        QueryError: Prometheus refuses a query.
        ValueError: a variable asks for something else than the values of a label.
    """
    values = _values(dashboard, view)
    offered = {}
    for variable in dashboard.variables:
        if isinstance(variable.query, str):
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", substitute(variable.query, values))
            if found is None:
                raise ValueError(f"{variable.name}: {variable.query} is not label_values(SELECTOR, LABEL)")
            offered[variable.name] = prometheus.values(found[2], found[1], view.start_s, view.end_s)
    return offered


def _values(dashboard: Dashboard, view: View) -> dict[str, str]:
    return {v.name: ".*" if v.several else v.start for v in dashboard.variables} | dict(view.chosen)


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Replace ``$name`` by its value; ``$1`` is left to PromQL's label_replace.

    Raises:
        KeyError: there is none.
    """
    return re.sub(r"\$([a-z_]+)", lambda match: values[match[1]], text)


def _ask(prometheus: Prometheus, panel: Panel, query: Query, values: Mapping[str, str], view: View) -> Answer:
    spans = {"__range": view.end_s - view.start_s, "__rate_interval": view.rate_interval_s}
    expr = substitute(query.expr, {**values, **{name: f"{span:.0f}s" for name, span in spans.items()}})
    if panel.instant:
        found = prometheus.at(expr, view.end_s)
    else:
        found = prometheus.over(expr, view.start_s, view.end_s, view.step_s)
    return Answer(query, expr, [(_legend(query.legend, one.labels), one) for one in found])


def _legend(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), legend)
