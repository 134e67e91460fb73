"""What people choose at the top of the dashboards."""

from deploy.grafana.model import Variable
from deploy.grafana.promql import PERCENTILES, exported
from rlad_core import metrics


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
APPLICATION = Variable(
    "application", "Application", _values("ray_serve_deployment_replica_healthy", "application")
)
DEPLOYMENT = Variable(
    "deployment",
    "Deployment",
    _values('ray_serve_deployment_replica_healthy{application=~"$application"}', "deployment"),
)
PERCENTILE = Variable("percentile", "Percentile", tuple(PERCENTILES), several=False, start="p95")
