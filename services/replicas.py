"""From a service's class and settings to the application that Serve deploys."""

from typing import Any

from ray.serve import Application

from services.replica_settings import ReplicaArgs


def bind(deployment: Any, args: ReplicaArgs, environment: dict[str, str], **options: Any) -> Application:
    """The application of a service with these settings.

    Args:
        deployment: the class that `serve.deployment` made, which takes `args`.
        environment: variables of a replica's process; without a GPU of its own it sees none.
        options: more of the deployment's options.
    """
    if not args.num_gpus:
        environment = {"CUDA_VISIBLE_DEVICES": ""} | environment
    count: dict[str, Any] = (
        {"num_replicas": args.num_replicas}
        if args.autoscaling is None
        else {"autoscaling_config": args.autoscaling.model_dump()}
    )
    application: Application = deployment.options(
        **count,
        max_ongoing_requests=args.max_ongoing_requests,
        max_queued_requests=args.max_queued_requests,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        graceful_shutdown_timeout_s=args.drain_timeout_s,
        ray_actor_options={
            "num_cpus": args.num_cpus,
            "num_gpus": args.num_gpus,
            "label_selector": args.node_labels,
            "runtime_env": {"env_vars": environment},
        },
        **options,
    ).bind(args)
    return application
