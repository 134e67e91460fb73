"""The cluster's machines: memory, disks, processors, and what fills them."""

from deploy.grafana.model import Panel, Query, Threshold, Variable
from deploy.grafana.promql import Scope, exported
from rlad_core import metrics

CLUSTER = Variable("cluster", "Ray session", "label_values(ray_cluster_active_nodes, SessionName)")
#: Series of the chosen clusters.
OF_CLUSTER = Scope(('SessionName=~"$cluster"',), ("SessionName",))

_NODE = Scope(OF_CLUSTER.matchers, ("instance",))
_SHARE = [Threshold(0.85, "yellow"), Threshold(0.95, "red")]

# Ray names a process by what it does just now, "ray::Actor.method": many short lines, were it not cut.
_PROCESSES = (
    f"label_replace({OF_CLUSTER.select('ray_component_rss_bytes')}, "
    '"process", "$1", "Component", "(?:.*/|ray::)?(ServeReplica:[^:.]+|[A-Za-z]+).*")'
)
_ACTORS = OF_CLUSTER.select("ray_actors", 'State!="ALIVE"')  # ALIVE is the sum of two others
_SPILLED = OF_CLUSTER.select("ray_spill_manager_objects_bytes", 'State="Spilled"')
_USED_STORE = _NODE.largest("ray_object_store_used_memory")


def _node_share(used: str, whole: str) -> list[Query]:
    return [Query(f"({_NODE.largest(used)}) / ({_NODE.largest(whole)})", "{{instance}}")]


MACHINES = (
    Panel(
        "CPU",
        [Query(f"{_NODE.largest('ray_node_cpu_utilization')} / 100", "{{instance}}")],
        "percentunit",
        "Share of each node's CPUs that is busy.",
        "High where engines or the learner run on CPUs, low on GPU nodes.",
        "All at 100%: engines, learner and services take each other's time; see Latency on Training run.",
        high=1,
        thresholds=[Threshold(0.98, "yellow")],
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
        [
            Query(
                _NODE.grown("ray_memory_manager_worker_eviction_total", "Name"),
                "{{instance}} {{Name}}",
                empty_when_well="no worker is killed while there is memory",
            )
        ],
        "short",
        "Workers that Ray killed in the time range because their node ran out of memory.",
        "None.",
        "The name says what it was. A rollout replica: lower `kv_cache_memory_gib`; the learner: smaller "
        "micro-batches.",
        kind="bargauge",
        axis="workers",
        thresholds=[Threshold(1, "red")],
    ),
    Panel(
        "Memory of processes",
        [Query(f"sum by (process) ({_PROCESSES}) > 2^28", "{{process}}")],
        "bytes",
        "Resident memory by kind of process, added up over nodes; those over 256 MiB.",
        "Flat after the first steps.",
        "One that keeps rising leaks; its name says whose it is.",
        stacked=True,
        unjudged="the machine decides what is much; Memory has the share",
    ),
    Panel(
        "Memory that was planned",
        [
            Query(
                f"max by (run, role) (last_over_time({exported(metrics.RUN_PLANNED_MEMORY)}[$__range]))",
                "{{run}} {{role}}",
            ),
            Query(
                f"max by (run) (last_over_time({exported(metrics.RUN_LEARNER_MEMORY)}[$__range]))",
                "{{run}} learner, the most that it took",
            ),
        ],
        "bytes",
        "What `rlad plan` counts for one process of each role: on its GPU, or on the host where it has none; "
        "and what the learner's first process has taken of it.",
        "Processes stay near it; what libraries take for themselves, some GiB each, comes on top.",
        "A process far above its figure, or rising towards the node's limit: the plan misses something; see "
        "Memory of processes, and GPU memory below. There is an alert for the learner.",
        kind="bargauge",
        unjudged="it is what others are compared with",
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
        thresholds=[Threshold(1, "yellow"), Threshold(2**33, "red")],
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
        "Actors",
        [Query(f"sum by (State) ({_ACTORS})", "{{State}}")],
        "none",
        "Ray actors by state.",
        "All alive and idle or running; pending only while something starts.",
        "PENDING_CREATION for minutes: no node has the CPUs or GPUs that are asked for.",
        axis="actors",
        unjudged="which state, not how many, is good or bad",
    ),
)
