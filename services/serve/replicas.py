"""From a service's class and settings to the application that Serve deploys, and how its replicas begin."""

import os
from typing import Any

import ray
from ray.serve import Application
from ray.serve._private import replica as serves_replica

from services.base import telemetry
from services.serve.http.auth import is_loopback
from services.serve.kept import remember
from services.serve.replica_settings import SPARE_PLACES, ReplicaArgs
from services.serve.temporary import session_folder, use_session_folder


def bind(deployment: Any, args: ReplicaArgs, **options: Any) -> Application:
    """The application of a service with these settings.

    Args:
        deployment: the class that `serve.deployment` made, which takes `args`.
        options: more of the deployment's options.
    """
    count: dict[str, Any] = (
        {"num_replicas": args.num_replicas}
        if args.autoscaling is None
        else {"autoscaling_config": args.autoscaling.model_dump()}
    )
    on_one_node = {
        "num_cpus": args.num_cpus,
        "num_gpus": args.num_gpus,
        "label_selector": args.node_labels,
    }
    application: Application = deployment.options(
        **count,
        # More than are worked on: `Intake` counts those, and refuses at once what comes on top of them.
        # So a request for health never waits behind work.
        max_ongoing_requests=args.places + SPARE_PLACES,
        # Those on their way to a replica, health among them: many come at the same moment, and wait for none.
        max_queued_requests=args.calls_queued,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        graceful_shutdown_timeout_s=args.drain_timeout_s,
        **{"ray_actor_options": on_one_node, **options},
    ).bind(args)
    return application


def begin(args: ReplicaArgs) -> None:
    """To be called first in a replica, before it imports what reads its environment."""
    # Not as Ray's runtime environment: no process that Ray holds ready has one, so each replica would begin
    # by starting Python and importing Ray.
    os.environ.update(args.environment)
    telemetry.name_run(args.run)
    remember(args)
    use_session_folder(session_folder())
    node = ray.util.get_node_ip_address()
    if is_loopback(node):
        # For calls between deployments Serve opens a port on all interfaces, which takes pickles of anybody.
        # On an embedded Ray it stays on this machine, as Ray's other ports do.
        add_port = serves_replica.add_port_to_grpc_server
        serves_replica.add_port_to_grpc_server = lambda server, _: add_port(server, f"{node}:0")
