"""Queries for recorded quantiles: their lines, and what can be known where the buckets say no more."""

from deploy.grafana.model import Query
from deploy.grafana.promql import Scope
from rlad_core.metric_specs import PERCENTILES, MetricSpec

BEYOND = "all its values are within the buckets"


def percentiles(scope: Scope, metric: MetricSpec | str, legend: str, *by: str) -> list[Query]:
    """A line for each percentile."""
    lines = [Query(scope.quantile(metric, name, *by), f"{legend} {name}".strip()) for name in PERCENTILES]
    return [*lines, _beyond(scope, metric, ".*", f"{legend} {{{{percentile}}}}".strip(), *by)]


def chosen(scope: Scope, metric: MetricSpec | str, legend: str, *by: str) -> list[Query]:
    """The percentile that is chosen at the top of the dashboard."""
    line = Query(scope.quantile(metric, "$percentile", *by), legend)
    return [line, _beyond(scope, metric, "$percentile", legend, *by)]


def _beyond(scope: Scope, metric: MetricSpec | str, percentile: str, legend: str, *by: str) -> Query:
    return Query(scope.quantile_bound(metric, percentile, *by), f"{legend} {{{{side}}}} this", BEYOND)
