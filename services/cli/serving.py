"""``rlad serve``: services on this machine, until somebody stops them.

Stopping drains: on SIGTERM or Ctrl-C every replica refuses what is new with 503, what runs is finished and
sent to its last byte within the services' ``drain_timeout_s``, and then all ends.
"""

import ipaddress
import math
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType

from services.base.uncollected import uncollected
from services.cli.service_settings import SERVICES, ServingError
from services.serve.cluster import check_limits, embedded_ray
from services.serve.deployment import Tls, deployed, refuse_taken
from services.serve.http.auth import TOKENS, TOKENS_FILE, AuthError, Tokens, is_loopback
from services.serve.http.callers import PROXIES
from services.serve.http.reading import VARIABLES
from services.serve.lean_ray import import_serve
from services.serve.replica_settings import ReplicaArgs
from services.serve.worker_lines import logs_folder, passed_on

_SPARE_CPUS = 2  # logical: Serve's proxy and controller
_DRAIN_POLL_S = 0.2


def serve_until_stopped(
    services: Mapping[str, ReplicaArgs],
    *,
    host: str,
    port: int,
    start_timeout_s: float,
    say: Callable[[str], None],
    tls: Tls | None = None,
    behind: str = "",
    metrics_port: int | None = None,
) -> None:
    """Start services in a Ray of their own and serve until SIGTERM or Ctrl-C.

    Args:
        services: settings by name of the service. One alone is under ``/``, several under ``/NAME``.
        say: told what a person should know.
        tls: files for HTTPS.
        behind: addresses of reverse proxies, separated by commas, whose word is taken for who asks.
        metrics_port: where Prometheus finds what all replicas record; None: a free one.

    Raises:
        ServingError: ``host`` would open the services to others and no token is configured, or those that are
            cannot be read; `tls` cannot be answered with, `behind` is no address, or a variable that limits
            requests or answers holds no number.
        DeploymentError: a service does not start.
    """
    tokens = Tokens()
    try:
        tokens.check()
    except AuthError as error:
        raise ServingError(str(error)) from error
    if not (locked := tokens.required) and not is_loopback(host):
        raise ServingError(
            f"--host {host} would let anyone on the network in: set {TOKENS} or {TOKENS_FILE} to tokens of "
            "your choice, or leave --host at 127.0.0.1"
        )
    if tls is not None:
        _check(tls)
    try:
        check_limits()
    except ValueError as error:
        raise ServingError(str(error)) from error
    # Serve's proxy looks at these: of whom it believes who asks, and how large a body it takes in.
    if behind:
        os.environ[PROXIES] = _addresses(behind)
    os.environ.setdefault(PROXIES, "")
    refuse_taken(host, port)
    most = max(args.max_body_bytes for args in services.values())
    os.environ.setdefault(VARIABLES["max_bytes"], str(most / 2**20))
    cpus = _SPARE_CPUS + math.ceil(sum(args.num_cpus * _most_replicas(args) for args in services.values()))
    names = list(services)
    routes = {name: "/" if len(names) == 1 else f"/{name}" for name in names}
    # A replica that starts or is lost should not wait for Serve's next look. A lost proxy is replaced after
    # three looks in vain, which are 10 s apart where nothing else is said.
    os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S", "1")
    say(f"starting Ray, then Serve and {', '.join(names)}: seconds for tiny models, minutes for large ones")
    began = time.monotonic()
    with (
        embedded_ray(
            num_cpus=cpus, object_store_gib=0.5, metrics_port=metrics_port, services_alone=True,
            meanwhile=partial(_import_all, names), say=say,
        ),
        _told(lambda: say(f"Ray is up after {time.monotonic() - began:.1f} s, now {', '.join(names)}")),
        passed_on(logs_folder()),
        # After Ray, which takes SIGTERM for itself when it starts.
        _stop() as stop,
        deployed(
            lambda: {name: SERVICES[name].build(args) for name, args in services.items()},
            timeout_s=start_timeout_s, setting="--start-timeout", host=host, port=port, routes=routes,
            take_down=False, tls=tls, say=say,
        ) as url,
    ):  # fmt: skip
        who = "callers with a token" if locked else f"this machine only, since {TOKENS} is not set"
        say(f"serving {who} on {url}")
        for name in names:
            base = url + routes[name].rstrip("/")
            path, body = SERVICES[name].try_it
            token = ' -H "Authorization: Bearer $TOKEN"' if locked else ""
            trust = f" --cacert {tls.certificate}" if tls else ""
            say(f"{name}: documentation {base}/docs, try\n  curl{trust} {base}{path}{token} -d '{body}'")
        say(f"metrics, for Prometheus: {_metrics_url()}")
        say(f"logs: JSON lines on stderr; all else that the services' processes say is in {logs_folder()}")
        say(f"stop it with Ctrl-C or kill {os.getpid()}: what runs is finished, what is new is refused")
        stop.up = True
        while not stop.wanted.wait(1.0):
            pass
        say("stopping: what runs is finished, what is new is refused")
        _drain(names, max(args.drain_timeout_s for args in services.values()), say)


def _import_all(names: list[str]) -> None:
    """What these services are deployed with."""
    with uncollected():
        import_serve()
        for name in names:
            SERVICES[name].imported()


def _check(tls: Tls) -> None:
    """Whether HTTPS can be answered with these files; Serve's proxy would fail over and over."""

    def ask_nobody() -> str:  # where OpenSSL would ask on the terminal
        raise ServingError(f"{tls.key} is encrypted; --tls-key takes a key without a passphrase")

    for file in (tls.certificate, tls.key):
        if not os.access(file, os.R_OK):
            raise ServingError(f"{file} cannot be read; --tls-cert and --tls-key name PEM files")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            tls.certificate, tls.key, ask_nobody
        )
    except ssl.SSLError as error:
        raise ServingError(
            f"{tls.certificate} and {tls.key} are no certificate and its key in PEM format: "
            f"{error.reason or error}"
        ) from error
    except OSError as error:
        raise ServingError(f"{tls.certificate} and {tls.key} cannot be read: {error.strerror}") from error


def _addresses(behind: str) -> str:
    """What ``--behind-proxy`` names, where all of it can be a proxy's: uvicorn takes any word for one."""
    given = [each.strip() for each in behind.split(",")]
    for each in given if given != ["*"] else ():
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            raise ServingError(
                f"--behind-proxy: {each!r} is no address and no network. Write 10.0.0.5, 10.0.0.0/8, several "
                "with commas between, or * alone for whoever connects"
            ) from error
    return ",".join(given)


def _metrics_url() -> str:
    import ray

    [node] = ray.nodes()
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"


def _most_replicas(args: ReplicaArgs) -> int:
    return args.num_replicas if args.autoscaling is None else args.autoscaling.max_replicas


def _drain(names: list[str], limit_s: float, say: Callable[[str], None]) -> None:
    from ray import serve

    from services.serve.proxies import unsent_answers

    deadline = time.monotonic() + limit_s
    handles = [serve.get_app_handle(name) for name in names]
    for handle in handles:
        handle.broadcast("drain").results(timeout_s=limit_s, return_exceptions=True)
    closed = time.monotonic()
    while True:
        counts = [
            count
            for handle in handles
            for count in handle.broadcast("in_work").results(timeout_s=limit_s, return_exceptions=True)
        ]
        working = sum(count for count in counts if isinstance(count, int))
        # Of what came later nothing is but refused.
        unsent = unsent_answers(closed)
        if not (working or unsent):
            return
        if time.monotonic() > deadline:
            sent = "nobody knows how many" if unsent is None else unsent
            left = f"{working} requests in work and {sent} answers not sent whole"
            say(f"waited {limit_s:g} s (drain_timeout_s) for what runs; ending with {left}")
            return
        time.sleep(_DRAIN_POLL_S)


@contextmanager
def _told(tell: Callable[[], None]) -> Iterator[None]:
    """Tell something between two other blocks."""
    tell()
    yield


class _Stop:
    """What SIGTERM and Ctrl-C do: once the services are up they let them finish what runs, before that they
    end all at once. So does Ctrl-C again; SIGTERM may come twice for one stop.
    """

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self.up = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        at_once = number == signal.SIGINT if self.wanted.is_set() else not self.up
        self.wanted.set()
        if at_once:
            signal.default_int_handler(number, frame)


@contextmanager
def _stop() -> Iterator[_Stop]:
    """SIGTERM and SIGINT are heard inside the block."""
    stop = _Stop()
    before = {number: signal.signal(number, stop.hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
