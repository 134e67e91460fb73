"""Cluster and services: is everything up, and has it room."""

from dataclasses import replace

from deploy.grafana.alone import ALONE
from deploy.grafana.foreign import SERVE_STATES
from deploy.grafana.gpus import GPUS
from deploy.grafana.machines import CLUSTER, MACHINES, OF_CLUSTER
from deploy.grafana.model import Dashboard, Panel, Query, Row, Threshold
from deploy.grafana.promql import Scope, of_chosen_runs
from deploy.grafana.quantiles import chosen, percentiles
from deploy.grafana.service_panels import ANY, QUEUED
from deploy.grafana.variables import PERCENTILE, RUN, services
from rlad_core import metrics

_SERVE = Scope(
    (*OF_CLUSTER.matchers, 'application=~"$application"', 'deployment=~"$deployment"'), ("application",)
)
_RUN = Scope((*OF_CLUSTER.matchers, 'run=~"$run"', 'application=~"$application"'), ("run", "service"))
# Recorded quantiles are of all clusters that have a run or an application of the name.
_RECORDED_RUN = Scope(('run=~"$run"', 'application=~"$application"'), _RUN.by)
_RECORDED_SERVE = Scope(('application=~"$application"', 'deployment=~"$deployment"'), _SERVE.by)

# Serve's proxy refuses before it knows an application.
_BEFORE = Scope((*OF_CLUSTER.matchers, 'service="proxy"'), ())

_PROCESSING = "ray_serve_deployment_processing_latency_ms"
_CALL = [Threshold(60, "yellow"), Threshold(600, "red")]
_UP = [Threshold(1, "green")]
_BY_HANDLE = "a run calls its services by handle"


def _served(expr: str, what: str = "", empty_when_well: str = "") -> Query:
    """A query of Serve's own series, of the chosen runs' applications."""
    return Query(of_chosen_runs(expr), f"{{{{application}}}} {what}".rstrip(), empty_when_well)


_NOW = (
    Panel(
        "Nodes",
        # One series for each type of node.
        [
            Query(
                f"sum by (SessionName) ({OF_CLUSTER.largest('ray_cluster_active_nodes', 'node_type')})",
                "{{SessionName}}",
            )
        ],
        "none",
        "Ray nodes that are alive.",
        "What was asked for.",
        "Fewer: a pod was evicted or does not get a machine; `ray status` on the head says which.",
        kind="stat",
        width=4,
        base="red",
        thresholds=_UP,
    ),
    Panel(
        "Healthy replicas",
        [_served(_SERVE.total("ray_serve_deployment_replica_healthy", "deployment"))],
        "none",
        "Replicas of each application that pass their health check.",
        "As many as its settings say.",
        "0 is red: nothing answers. Its log, and `serve status`, say why replicas do not start.",
        kind="stat",
        width=10,
        base="red",
        thresholds=_UP,
    ),
    Panel(
        "Deployment status",
        [_served(_SERVE.largest("ray_serve_deployment_status", "deployment"))],
        "none",
        "Serve's state of each deployment.",
        "Healthy.",
        "Being brought up for minutes: replicas load or wait for resources. Unhealthy or failed: its log "
        "says why.",
        kind="stat",
        width=10,
        base="red",
        thresholds=[Threshold(3, "yellow"), Threshold(4, "green")],
        words=SERVE_STATES,
    ),
)

_SERVICES = (
    Panel(
        "Calls by service",
        [Query(_RUN.rate(metrics.SERVICE_REQUESTS), "{{run}} {{service}}")],
        "reqps",
        "Calls a second of each service of the chosen runs.",
        "Bursts with the steps.",
        "See the dashboards of teacher and rollout.",
        unjudged="traffic is what the runs make it",
    ),
    Panel(
        "Mean time of a call",
        [
            Query(
                _RUN.mean(metrics.SERVICE_SECONDS, metrics.SERVICE_DURATION),
                "{{run}} {{service}}",
            )
        ],
        "s",
        "Mean time of a call of the time range to each service, from exact seconds.",
        "As in the benchmark, for calls of the same size.",
        "See the latency beside it for when it changed.",
        kind="bargauge",
        thresholds=_CALL,
    ),
    Panel(
        "Latency by service, $percentile",
        chosen(_RECORDED_RUN, metrics.SERVICE_DURATION, "{{run}} {{service}}"),
        "s",
        "The chosen percentile of a call to each service.",
        "The verifier in milliseconds, the teacher under a second, rollout as long as its longest response.",
        "See the dashboards of teacher and rollout; the verifier has only this: more `workers`.",
        logarithmic=True,
        thresholds=_CALL,
    ),
    Panel(
        "Latency in Serve",
        [
            replace(query, expr=of_chosen_runs(query.expr))
            for query in percentiles(_RECORDED_SERVE, _PROCESSING, "{{application}}")
        ],
        "ms",
        "Percentiles of the time that Serve's replicas work on a call, health checks left out.",
        "As the service's own latency.",
        "More than that is time in Serve's proxy and its event loop.",
        logarithmic=True,
        thresholds=[Threshold(60_000, "yellow"), Threshold(600_000, "red")],
    ),
    Panel(
        "Waiting for a replica",
        [_served(_SERVE.total("ray_serve_deployment_queued_queries", "deployment"))],
        "none",
        "Calls that Serve holds because all replicas are full.",
        "0 but for moments.",
        "There is an alert once calls are refused for ten minutes; add replicas.",
        axis="calls",
        thresholds=QUEUED,
    ),
    Panel(
        "Replicas started",
        [_served(_SERVE.grown("ray_serve_deployment_replica_starts_total", "deployment"))],
        "short",
        "Replicas started in the time range.",
        "Once each, when the application was deployed.",
        "More than autoscaling explains: replicas die. Their log ends with the reason.",
        kind="bargauge",
        axis="starts",
        thresholds=[Threshold(10, "yellow"), Threshold(50, "red")],
    ),
    Panel(
        "Failed HTTP calls",
        [
            _served(
                _SERVE.rate("ray_serve_num_http_error_requests_total", "error_code"),
                "{{error_code}}",
                empty_when_well=_BY_HANDLE,
            )
        ],
        "reqps",
        "HTTP calls a second that ended with a code from 400 on.",
        "None, or callers that try without a token (401).",
        "429 and 503 are saturation or draining, 500 is a fault of ours.",
        thresholds=[Threshold(ANY, "yellow"), Threshold(1, "red")],
    ),
    Panel(
        "HTTP calls refused before any service",
        [
            Query(
                _BEFORE.rate(metrics.SERVICE_ERRORS, "kind"), "{{kind}}", empty_when_well="nothing is refused"
            )
        ],
        "reqps",
        "Connections and requests a second that the proxy refuses by itself, of any application.",
        "None.",
        "Heads and bodies that are too large, too slow or no HTTP: a client's fault, or somebody who tries. "
        "docs/services.md has the limits.",
        thresholds=[Threshold(ANY, "yellow"), Threshold(10, "red")],
    ),
    Panel(
        "HTTP calls",
        [_served(_SERVE.rate("ray_serve_num_http_requests_total"), empty_when_well=_BY_HANDLE)],
        "reqps",
        "HTTP calls a second, from outside the cluster.",
        "What the clients of a shared teacher send.",
        "None: the ingress or its network policy does not let them through.",
        unjudged="traffic is what the clients make it",
    ),
    Panel(
        "Verifier: mean time by phase",
        [
            Query(
                Scope((*_RUN.matchers, 'service="verifier"'), ("run",)).mean(
                    metrics.SERVICE_PHASE_SECONDS, metrics.SERVICE_PHASE_DURATION, "phase"
                ),
                "{{run}} {{phase}}",
            )
        ],
        "s",
        "Mean time that a call to the verifier spent in each phase.",
        "Milliseconds; engine is the checks themselves, in their worker processes.",
        "Engine over a second: checks run to their time limit. See which in the replica's log.",
        kind="bargauge",
        thresholds=[Threshold(1, "yellow"), Threshold(10, "red")],
    ),
)

DASHBOARD = Dashboard(
    "rlad-cluster-services",
    "RLAD / Cluster and services",
    "Whether everything is up and has room.",
    (CLUSTER, RUN, *services(), PERCENTILE),
    (Row("Now", _NOW), Row("Machines", MACHINES), Row("Services", _SERVICES), ALONE, GPUS),
)
