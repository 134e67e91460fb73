"""The Ray cluster: an embedded one on this machine's loopback, or one that is already there.

There is one already where the recipe names it (``cluster.address``), and where Ray's own variable RAY_ADDRESS
does, as it does inside `ray job submit` and in every pod of a KubeRay cluster.

Ray's processes import what is installed, as `rlad` itself does, and never what lies in the folder where it is
started: that may hold a `services.py` or a package `tests` of somebody else's.
"""

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants, worker
from ray.job_config import JobConfig

from rlad_core.config import ClusterConfig
from services.base.leftovers import none_left
from services.serve import lean_ray
from services.serve.ray_processes import whose_end_is_told
from services.serve.reachable import check_reachable
from services.serve.start_limit import start_limit
from services.serve.start_told import start_told

NAMESPACE = "rlad"
"""Ray namespace of the named actors, given explicitly because Serve's replicas live in another one."""

_START_ATTEMPTS = 3
_FIRST, _NODE = "Ray's first process", "Ray's node"


class _InstalledOnly(JobConfig):
    """A job whose workers get no folder of ours on their path.

    Ray puts the driver's current folder and that of its script before everything else there, and has no
    switch for it. A working directory in the runtime environment would keep them out too, but then none of
    the workers that Ray holds ready could be used.
    """

    def _serialize(self) -> str:
        self._py_driver_sys_path.clear()
        return super()._serialize()


def _quoted_python() -> dict[str, str] | None:
    """What workers with variables of their own need where the path of Python has a space in it.

    Ray gives that path to a shell as it is, and then waits for a worker that never comes.
    """
    quoted = shlex.quote(sys.executable)
    return {"py_executable": quoted} if quoted != sys.executable else None


def _quiet() -> None:
    """See to it that Ray says nothing here: we say what happens, and Ray's logs have its own words."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # SIGTERM is no reason to print a C++ stack. The variable for it was read when Ray was imported.
    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    # What its processes tell all drivers: of a worker that died, and of how many it starts.
    worker._worker_logs_enabled = False


def joined_address(settings: ClusterConfig) -> str | None:
    """The cluster that is joined; None: one of our own is started."""
    address = settings.address or os.environ.get("RAY_ADDRESS")
    return address if address != "local" else None


def check_limits() -> None:
    """Read what the environment sets for Serve's proxy, which would else fail over and over, half a minute
    later.

    Raises:
        ValueError: a variable that limits requests or answers holds no positive number; names it.
    """
    from services.serve.http.reading import BodyLimits
    from services.serve.http.slow_clients.clients_behind import AnswerLimits

    for limits in (BodyLimits, AnswerLimits):
        limits.of_environment()


@contextmanager
def cluster(
    settings: ClusterConfig,
    *,
    wanted_cpus: int,
    metrics_port: int | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    go_on: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Join or start Ray; an embedded cluster ends with the block, another one goes on without us.

    Args:
        wanted_cpus: logical CPUs of an embedded one whose settings name no number.
        metrics_port, meanwhile, go_on, say: see `embedded_ray`.

    Raises:
        ConnectionError: there is no cluster where one is to be joined.
    """
    os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
    address = joined_address(settings)
    if address is None:
        with embedded_ray(
            num_cpus=settings.num_cpus or wanted_cpus,
            num_gpus=settings.num_gpus,
            object_store_gib=settings.object_store_gib,
            metrics_port=metrics_port,
            meanwhile=meanwhile,
            go_on=go_on,
            say=say,
        ):
            yield
        return
    _quiet()
    check_reachable(address)
    with start_told(say, f"the Ray cluster at {address}"), start_limit():
        ray.init(
            address=address,
            namespace=NAMESPACE,
            logging_level=logging.WARNING,
            log_to_driver=False,
            job_config=_InstalledOnly(),
        )
    with _ended(), whose_end_is_told(go_on):
        yield


@contextmanager
def embedded_ray(
    *,
    num_cpus: int,
    num_gpus: int | None = None,
    object_store_gib: float = 1.0,
    metrics_port: int | None = None,
    services_alone: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
    go_on: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """A Ray of this process on the loopback interface, which ends with the block.

    Args:
        num_cpus: logical CPUs; they may exceed the cores.
        num_gpus: None: all there are.
        metrics_port: where its metrics can be scraped, from this machine; None: a free one.
        services_alone: each worker imports Serve, see `services.serve.lean_ray`.
        meanwhile: done while its processes start.
        go_on: what to do where Ray's own processes end before their time, and with them this one.
        say: told what is waited for, from time to time, and that Ray is started again.

    Raises:
        ValueError: see `check_limits`.
    """
    check_limits()
    _quiet()
    # A token file in the home directory would lock later clusters of this user out.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    # What Ray's processes start with `python -c`, as multiprocessing does, looks into the current folder
    # otherwise.
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What stands before Serve's proxy.
    os.environ.setdefault(
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "services.serve.http.proxy:middlewares"
    )
    # How often Serve looks at its replicas; at its own 0.1 s that takes a twentieth of a core for ever.
    os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.5")
    # Workers that begin at once, before anything asks for one: Serve's controller, its proxy, a replica.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(max(3, os.cpu_count() or 1)))
    # On a busy machine Serve's proxy takes longer to start than the 5 s after which it is thrice given up.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    # Ray Train's watch for nodes that are about to be taken away; this one is the machine itself.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    # Ray takes the machine's own address for 127.0.0.1, where its unguarded ports are open to the network,
    # unless clusters of several nodes are off. The switch is named after the systems where they are.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False  # it was read when Ray was imported
    with none_left() as end_all, _ended():
        with start_told(say, _FIRST) as told:
            imported = told.after(meanwhile, "what is imported while Ray's node starts", _NODE)
            for attempt in range(1, _START_ATTEMPTS + 1):
                told.waits_for, told.attempt = _FIRST, f"attempt {attempt} of {_START_ATTEMPTS}"
                try:
                    with lean_ray.lean(imported, services_alone=services_alone), start_limit() as late:
                        ray.init(
                            address="local",  # also where RAY_ADDRESS names another cluster
                            num_cpus=num_cpus,
                            num_gpus=num_gpus,
                            object_store_memory=int(object_store_gib * 2**30),
                            include_dashboard=False,
                            namespace=NAMESPACE,
                            logging_level=logging.WARNING,
                            log_to_driver=False,
                            job_config=_InstalledOnly(),
                            runtime_env=_quoted_python(),
                            _node_ip_address="127.0.0.1",
                            _metrics_export_port=metrics_port,
                        )
                    break
                except Exception as error:
                    # Ray gives its node 30 s, which a busy machine may not keep; the limit can't be set.
                    again = late.is_set() or "timed out during startup" in str(error)
                    if not again or attempt == _START_ATTEMPTS:
                        raise
                    say(f"Ray's node did not start in time ({told.attempt}): it is started again")
                    ray.shutdown()
        with whose_end_is_told(go_on, end_all):
            yield


@contextmanager
def _ended() -> Iterator[None]:
    """Ray ends with the block."""
    try:
        yield
    finally:
        ray.shutdown()
