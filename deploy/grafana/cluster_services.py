"""Cluster and services: is everything up, and has it room."""

from deploy.grafana.model import Dashboard, Panel, Query, Row, Threshold, Variable
from deploy.grafana.promql import PERCENTILES, Scope
from deploy.grafana.variables import APPLICATION, DEPLOYMENT, PERCENTILE, RUN
from rlad_core import metrics

CLUSTER = Variable("cluster", "Ray session", "label_values(ray_cluster_active_nodes, SessionName)")

_CLUSTER = Scope(('SessionName=~"$cluster"',), ("SessionName",))
_NODE = Scope(_CLUSTER.matchers, ("instance",))
_SERVE = Scope(
    (*_CLUSTER.matchers, 'application=~"$application"', 'deployment=~"$deployment"'), ("application",)
)
_RUN = Scope((*_CLUSTER.matchers, 'run=~"$run"', 'application=~"$application"'), ("run", "service"))
# Recorded quantiles are of all clusters that have a run or an application of the name.
_RECORDED_RUN = Scope(('run=~"$run"', 'application=~"$application"'), _RUN.by)
_RECORDED_SERVE = Scope(('application=~"$application"', 'deployment=~"$deployment"'), _SERVE.by)

_SHARE = [Threshold(0.85, "yellow"), Threshold(0.95, "red")]

# Ray names a process by what it does just now, "ray::Actor.method": many short lines, were it not cut.
_PROCESSES = (
    f"label_replace({_CLUSTER.select('ray_component_rss_bytes')}, "
    '"process", "$1", "Component", "(?:.*/|ray::)?(ServeReplica:[^:.]+|[A-Za-z]+).*")'
)
_ACTORS = _CLUSTER.select("ray_actors", 'State!="ALIVE"')  # ALIVE is the sum of two others
_SPILLED = _CLUSTER.select("ray_spill_manager_objects_bytes", 'State="Spilled"')
_USED_STORE = _NODE.largest("ray_object_store_used_memory")


def _node_share(used: str, whole: str) -> list[Query]:
    return [Query(f"({_NODE.largest(used)}) / ({_NODE.largest(whole)})", "{{instance}}")]


_NOW = (
    Panel(
        "Nodes",
        [Query(_CLUSTER.largest("ray_cluster_active_nodes"), "{{SessionName}}")],
        "none",
        "Ray nodes that are alive.",
        "What was asked for.",
        "Fewer: a pod was evicted or does not get a machine; `ray status` on the head says which.",
        kind="stat",
        width=4,
    ),
    Panel(
        "Healthy replicas",
        [Query(_SERVE.total("ray_serve_deployment_replica_healthy", "deployment"), "{{application}}")],
        "none",
        "Replicas of each application that pass their health check.",
        "As many as its settings say.",
        "0 is red: nothing answers. Its log, and `serve status`, say why replicas do not start.",
        kind="stat",
        width=10,
    ),
    Panel(
        "Deployment status",
        [Query(_SERVE.largest("ray_serve_deployment_status", "deployment"), "{{application}}")],
        "none",
        "Serve's state of each deployment as a number: 6 is healthy, 3 is being brought up, below that are "
        "faults.",
        "6.",
        "3 for minutes: replicas load or wait for resources. 1 or 2: unhealthy or failed to deploy.",
        kind="stat",
        width=10,
    ),
)

_MACHINES = (
    Panel(
        "CPU",
        [Query(f"{_NODE.largest('ray_node_cpu_utilization')} / 100", "{{instance}}")],
        "percentunit",
        "Share of each node's CPUs that is busy.",
        "High where engines or the learner run on CPUs, low on GPU nodes.",
        "All at 100%: engines, learner and services take each other's time; see Latency on Training run.",
        high=1,
    ),
    Panel(
        "Memory",
        _node_share("ray_node_mem_used", "ray_node_mem_total"),
        "percentunit",
        "Share of each node's memory in use.",
        "Under 85%.",
        "From 95% on Ray kills workers; see the next panel. Give the node more, or run fewer replicas on it.",
        high=1,
        thresholds=_SHARE,
    ),
    Panel(
        "Killed for memory",
        [Query(_NODE.grown("ray_memory_manager_worker_eviction_total", "Name"), "{{instance}} {{Name}}")],
        "short",
        "Workers that Ray killed in the time range because their node ran out of memory.",
        "None.",
        "The name says what it was. A rollout replica: lower `kv_cache_memory_gib`; the learner: smaller "
        "micro-batches.",
        kind="bargauge",
        axis="workers",
        empty_when_well="no worker is killed while there is memory",
    ),
    Panel(
        "Memory of processes",
        [Query(f"sum by (process) ({_PROCESSES}) > 2^28", "{{process}}")],
        "bytes",
        "Resident memory by kind of process, added up over nodes; those over 256 MiB.",
        "Flat after the first steps.",
        "One that keeps rising leaks; its name says whose it is.",
        stacked=True,
    ),
    Panel(
        "Object store",
        [
            Query(
                f"{_USED_STORE} / ({_USED_STORE} + {_NODE.largest('ray_object_store_available_memory')})",
                "{{instance}}",
            )
        ],
        "percentunit",
        "Share of each node's object store in use: batches, policy versions, results.",
        "Low; it falls after each step.",
        "Full, it spills to disk and everything becomes slower; see Spilled.",
        high=1,
        thresholds=_SHARE,
    ),
    Panel(
        "Spilled",
        [Query(f"max by (instance) ({_SPILLED})", "{{instance}}")],
        "bytes",
        "Objects written to disk for want of memory.",
        "0.",
        "Give the object store more memory (`cluster.object_store_gib`).",
    ),
    Panel(
        "Disk",
        [Query(f"{_NODE.largest('ray_node_disk_utilization_percentage')} / 100", "{{instance}}")],
        "percentunit",
        "Share of each node's disk in use.",
        "Under 85%.",
        "Ray stops at 95%. Old sessions and checkpoints are the usual reason.",
        high=1,
        thresholds=_SHARE,
    ),
    Panel(
        "GPU",
        [
            Query(
                f"{_NODE.largest('ray_node_gpus_utilization', 'GpuIndex')} / 100", "{{instance}} {{GpuIndex}}"
            )
        ],
        "percentunit",
        "Share of the time in which each GPU computes.",
        "Engines and learner take turns strictly on-policy, so well under 100%.",
        "0 throughout: the process that owns it hangs, or nobody does.",
        high=1,
        empty_when_well="a node without GPUs has no such series",
    ),
    Panel(
        "Actors",
        [Query(f"sum by (State) ({_ACTORS})", "{{State}}")],
        "none",
        "Ray actors by state.",
        "All alive and idle or running; pending only while something starts.",
        "PENDING_CREATION for minutes: no node has the CPUs or GPUs that are asked for.",
        axis="actors",
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
    ),
    Panel(
        "Latency by service, $percentile",
        [
            Query(
                _RECORDED_RUN.quantile(metrics.SERVICE_DURATION, "$percentile"),
                "{{run}} {{service}}",
            )
        ],
        "s",
        "The chosen percentile of a call to each service.",
        "The verifier in milliseconds, the teacher under a second, rollout as long as its longest response.",
        "See the dashboards of teacher and rollout; the verifier has only this: more `workers`.",
    ),
    Panel(
        "Latency in Serve",
        [
            Query(
                _RECORDED_SERVE.quantile("ray_serve_deployment_processing_latency_ms", p),
                f"{{{{application}}}} {p}",
            )
            for p in PERCENTILES
        ],
        "ms",
        "Percentiles of the time that Serve's replicas work on a call, health checks left out.",
        "As the service's own latency.",
        "More than that is time in Serve's proxy and its event loop.",
    ),
    Panel(
        "Waiting for a replica",
        [Query(_SERVE.total("ray_serve_deployment_queued_queries", "deployment"), "{{application}}")],
        "none",
        "Calls that Serve holds because all replicas are full.",
        "0 but for moments.",
        "There is an alert after ten minutes; add replicas.",
        axis="calls",
    ),
    Panel(
        "Replicas started",
        [Query(_SERVE.grown("ray_serve_deployment_replica_starts_total", "deployment"), "{{application}}")],
        "short",
        "Replicas started in the time range.",
        "Once each, when the application was deployed.",
        "More than autoscaling explains: replicas die. Their log ends with the reason.",
        kind="bargauge",
        axis="starts",
    ),
    Panel(
        "Failed HTTP calls",
        [
            Query(
                _SERVE.rate("ray_serve_num_http_error_requests_total", "error_code"),
                "{{application}} {{error_code}}",
            )
        ],
        "reqps",
        "HTTP calls a second that ended with a code from 400 on.",
        "None, or callers that try without a token (401).",
        "429 and 503 are saturation or draining, 500 is a fault of ours.",
        empty_when_well="a run calls its services by handle",
    ),
    Panel(
        "HTTP calls",
        [Query(_SERVE.rate("ray_serve_num_http_requests_total"), "{{application}}")],
        "reqps",
        "HTTP calls a second, from outside the cluster.",
        "What the clients of a shared teacher send.",
        "None: the ingress or its network policy does not let them through.",
        empty_when_well="a run calls its services by handle",
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
    ),
)

DASHBOARD = Dashboard(
    "rlad-cluster-services",
    "RLAD / Cluster and services",
    "Whether everything is up and has room.",
    (CLUSTER, RUN, APPLICATION, DEPLOYMENT, PERCENTILE),
    (Row("Now", _NOW), Row("Machines", _MACHINES), Row("Services", _SERVICES)),
)
