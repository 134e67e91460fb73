"""What a pod does before it goes: Kubernetes runs it as `preStop`, and waits for it within the grace period.

    python -m services.run.leave drain --within 680   # a pod of replicas: they move, and end what they have
    python -m services.run.leave stop --within 840    # the head of a run: it ends its step, with a checkpoint
    python -m services.run.leave wait --within 840    # a pod of a run: stays while the run works on it

All three end as soon as nothing is at work on this node, and after the given seconds in any case.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import ray
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_actors

_POLL_S = 1.0
_ANSWER_S = 10


def drain(node_id: str, within_s: float) -> None:
    """Tell Ray that this node goes: Serve starts the node's replicas elsewhere and lets these finish."""
    # What the (hidden) command `ray drain-node` does; it has no public equivalent.
    from ray.core.generated import autoscaler_pb2

    gcs = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    deadline_ms = int((time.time() + within_s) * 1000)
    accepted, why_not = gcs.drain_node(
        node_id, autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION, "the pod is going", deadline_ms
    )
    if not accepted:
        print(f"leave: Ray refuses to drain the node: {why_not}", file=sys.stderr)


def stop(node_id: str, _within_s: float) -> None:
    """Tell every running job to stop, which for `rlad run` means: after this step.

    Its process is told, where it is on this node: it then exits with 1, being unfinished, the job has failed,
    and KubeRay makes the next attempt. A job that Ray is told to stop is "stopped", and for KubeRay complete.
    """
    client = JobSubmissionClient()
    [here] = [node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == node_id]
    for job in client.list_jobs():
        if not job.submission_id or job.status not in (JobStatus.PENDING, JobStatus.RUNNING):
            continue
        if job.driver_info is not None and job.driver_info.node_ip_address == here:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(int(job.driver_info.pid), signal.SIGTERM)
        else:
            client.stop_job(job.submission_id)


def wait(_node_id: str, _within_s: float) -> None:
    """Tell nobody."""


STEPS: dict[str, Callable[[str, float], None]] = {"drain": drain, "stop": stop, "wait": wait}


def at_work(node_id: str, how: str) -> list[str]:
    """Classes of the actors on a node that have something to finish.

    Those are replicas of Serve, drivers of submitted jobs, and what ends with its job. Other detached actors
    (Serve's controller, coordinators of Ray's libraries) stay for as long as their cluster, and so do Serve's
    proxies; but from a node that is drained Serve takes the proxy away, once it has passed on all answers.
    """
    lasting = ("ServeReplica:", "JobSupervisor", *(("ProxyActor",) if how == "drain" else ()))
    mine = [("state", "=", "ALIVE"), ("node_id", "=", node_id)]
    actors = list_actors(filters=mine, timeout=_ANSWER_S, limit=1000, detail=True)
    return [
        actor.class_name for actor in actors if not actor.is_detached or actor.class_name.startswith(lasting)
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Leave a Ray cluster in an orderly way.")
    parser.add_argument("how", choices=list(STEPS))
    parser.add_argument("--within", type=float, required=True, metavar="SECONDS")
    parser.add_argument("--node", help="the node's id; by default the node that this runs on")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + options.within
    ray.init(address="auto", logging_level="WARNING", log_to_driver=False)
    node_id = options.node or ray.get_runtime_context().get_node_id()
    STEPS[options.how](node_id, options.within)
    while left := at_work(node_id, options.how):
        if time.monotonic() > deadline:
            print(f"leave: still here after {options.within:g} s: {', '.join(left)}", file=sys.stderr)
            return 1
        time.sleep(_POLL_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
