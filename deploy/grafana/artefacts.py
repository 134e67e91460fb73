"""Quantiles that are no quantiles: those in a histogram's first or last bucket, which has no other end.

Compared with the buckets that the data really have, whoever chose them.
"""

import re
from collections.abc import Iterable, Iterator

from deploy.grafana.answers import Answer, View
from deploy.grafana.model import Panel
from deploy.grafana.promql import exported, recorded
from deploy.grafana.recording import RECORDED
from deploy.prometheus.server import Prometheus


def artefacts(
    prometheus: Prometheus, answers: Iterable[tuple[Panel, list[Answer]]], view: View
) -> Iterator[str]:
    """Panels that draw one: title, series, value and the bucket's end. A panel without any draws none."""
    for panel, of_panel in answers:
        for answer in of_panel:
            for name in re.findall(r"(rlad:\w+:quantile)\b(?!_bound)", answer.expr):
                first, last = ends(prometheus, name, view)
                for series, one in answer.series:
                    beyond = [value for _, value in one.points if not first < value < last]
                    if beyond:
                        buckets = f"buckets end at {first:g} and {last:g}"
                        yield f"{panel.title}: {series} is {beyond[0]:g}, and {buckets}"


def ends(prometheus: Prometheus, quantile: str, view: View) -> tuple[float, float]:
    """The first and the last finite upper bound of the histogram that a recorded quantile is of."""
    [metric] = [exported(one.metric) for one in RECORDED if recorded(one.metric) == quantile]
    bounds = prometheus.values("le", f"{metric}_bucket", view.start_s, view.end_s)
    finite = sorted(float(bound) for bound in bounds if bound != "+Inf")
    return (finite[0], finite[-1]) if finite else (0.0, float("inf"))
