"""The series of a training run, and the usual query for a value that a run has once."""

from deploy.grafana.model import Query
from deploy.grafana.promql import Scope
from rlad_core.metric_specs import MetricSpec

RUN = Scope(('run=~"$run"',), ("run",))
STEP = Scope((*RUN.matchers, 'stage="step"'), RUN.by)


def gauge(metric: MetricSpec, *by: str) -> Query:
    """Its value for each run, and for each of more labels."""
    return Query(RUN.largest(metric, *by), " ".join(f"{{{{{label}}}}}" for label in ("run", *by)))
