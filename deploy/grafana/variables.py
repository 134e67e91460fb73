"""What people choose at the top of the dashboards."""

from deploy.grafana.model import Variable
from deploy.grafana.promql import exported
from rlad_core import metrics
from rlad_core.metric_specs import PERCENTILES


def _values(metric: str, label: str) -> str:
    return f"label_values({metric}, {label})"


#: Of whatever has recorded anything: trainings, and `shared` for services that no run owns.
RUN = Variable(
    "run",
    "Run",
    _values('{__name__=~"ray_rlad_(stage_seconds|service_requests)_total"}', "run"),
)
#: Runs that train, without shared services.
TRAINING = Variable("run", "Run", _values(exported(metrics.RUN_STEP), "run"))


def services(*matchers: str) -> tuple[Variable, Variable]:
    """Applications of the chosen runs that have had a call, cut down by matchers, and their deployments."""
    of_runs = ", ".join((*matchers, 'run=~"$run"'))
    calls = exported(metrics.SERVICE_REQUESTS)
    return (
        Variable("application", "Application", _values(f"{calls}{{{of_runs}}}", "application")),
        Variable(
            "deployment",
            "Deployment",
            _values(f'{calls}{{{of_runs}, application=~"$application"}}', "deployment"),
        ),
    )


PERCENTILE = Variable("percentile", "Percentile", tuple(PERCENTILES), several=False, start="p95")
