"""The Ray cluster of a run: an embedded one on this machine's loopback, or one that is already there.

There is one already where the recipe names it (``cluster.address``), and where Ray's own variable RAY_ADDRESS
does, as it does inside `ray job submit` and in every pod of a KubeRay cluster.
"""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants

from rlad_core.config import RunConfig
from services.http import proxy
from services.weights import NAMESPACE

_START_ATTEMPTS = 3
_SPARE_CPUS = 4  # logical: Serve's proxy and controller, Train's controller, the actors of the run


def joined_address(config: RunConfig) -> str | None:
    """The cluster that a run joins; None: it starts one of its own."""
    address = config.cluster.address or os.environ.get("RAY_ADDRESS")
    return address if address != "local" else None


@contextmanager
def cluster(config: RunConfig) -> Iterator[None]:
    """Join or start Ray; an embedded cluster ends with the block, another one goes on without us."""
    settings = config.cluster
    os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
    address = joined_address(config)
    if address is None:
        with embedded_ray(
            num_cpus=settings.num_cpus or _wanted_cpus(config),
            num_gpus=settings.num_gpus,
            object_store_gib=settings.object_store_gib,
            metrics_port=config.telemetry.metrics_port,
        ):
            yield
        return
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(address=address, namespace=NAMESPACE, logging_level=logging.WARNING, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def embedded_ray(
    *,
    num_cpus: int,
    num_gpus: int | None = None,
    object_store_gib: float = 1.0,
    metrics_port: int | None = None,
) -> Iterator[None]:
    """A Ray of this process on the loopback interface, which ends with the block.

    Args:
        num_cpus: logical CPUs; they may exceed the cores.
        num_gpus: None: all there are.
        metrics_port: where its metrics can be scraped, from this machine; None: a free one.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # A token file in the home directory would lock later clusters of this user out.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(proxy.VARIABLE, proxy.CALLBACK)
    # How often Serve looks at its replicas; at its own 0.1 s that takes a twentieth of a core for ever.
    os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.5")
    # Ray Train's watch for nodes that are about to be taken away; this one is the machine itself.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    # Ray takes the machine's own address for 127.0.0.1, where its unguarded ports are open to the network,
    # unless clusters of several nodes are off. The switch is named after the systems where they are.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False  # it was read when Ray was imported
    try:
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                ray.init(
                    address="local",  # also where RAY_ADDRESS names another cluster
                    num_cpus=num_cpus,
                    num_gpus=num_gpus,
                    object_store_memory=int(object_store_gib * 2**30),
                    include_dashboard=False,
                    namespace=NAMESPACE,
                    logging_level=logging.WARNING,
                    log_to_driver=False,
                    _node_ip_address="127.0.0.1",
                    _metrics_export_port=metrics_port,
                )
                break
            except Exception as error:
                # Ray gives its node 30 s, which a busy machine may not keep; the limit can't be set.
                if "timed out during startup" not in str(error) or attempt == _START_ATTEMPTS:
                    raise
                ray.shutdown()
        yield
    finally:
        ray.shutdown()


def _wanted_cpus(config: RunConfig) -> int:
    """What the run's services and workers reserve; CPUs are logical, so this may exceed the cores."""
    teachers = sum(served.num_replicas * served.num_cpus for served in config.served_teachers.values())
    # Twice the rollouts: a teacher that demonstrates runs as a rollout service too.
    rollout = 2 * config.rollout.num_replicas * config.rollout.num_cpus
    return _SPARE_CPUS + math.ceil(teachers + rollout + config.learner.workers * config.learner.num_cpus)
