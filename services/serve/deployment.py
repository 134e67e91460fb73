"""Serve applications brought up, waited for by name, and taken down again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from services.base.ports import free_port, listened_on
from services.serve.starting import DeploymentError, Limit, Starting

if TYPE_CHECKING:
    from ray.serve import Application

LOOPBACK = "127.0.0.1"
_CONTROLLER_POLL_S = 0.05


@dataclass(frozen=True)
class Tls:
    """Files in PEM format that HTTPS is answered with."""

    certificate: str
    key: str


@contextmanager
def deploying(
    applications: Mapping[str, Application] | Callable[[], Mapping[str, Application]],
    *,
    timeout_s: float,
    setting: str,
    host: str = LOOPBACK,
    port: int | None = None,
    routes: Mapping[str, str] | None = None,
    take_down: bool = True,
    tls: Tls | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Starting]:
    """Applications by name, on their way up; they are taken down at the end of the block.

    Replicas begin to load as soon as Serve's controller is up; its proxy, which answers HTTP, may start yet.

    Args:
        applications: by name; or what makes them, called while Serve starts.
        timeout_s: longest wait for all of them.
        setting: where `timeout_s` is set, for the error.
        host, port: where they answer HTTP; without a port, a free one.
        routes: name -> URL path; by default "/" and the name.
        take_down: False in a cluster that ends anyway, and all in it.
        tls: HTTPS instead of HTTP.
        say: told which of them are up and which are waited for.

    Yields:
        What waits for them.

    Raises:
        DeploymentError: Serve does not start, or not in time; says why.
    """
    options: dict[str, Any] = {}
    if not serve_is_up():  # whose proxy listens already
        options = {"host": host, "port": port or free_port(host)}
        if tls is not None:
            options |= {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    from ray import serve  # here: it takes longer to import than Ray, whose processes start meanwhile

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # its import says INFO
    limit = Limit(timeout_s, setting)
    named: Mapping[str, Application] = {}
    thread = ThreadPoolExecutor(1, "serve")
    start = thread.submit(serve.start, http_options=options or None, logging_config={"log_level": "WARNING"})
    thread.shutdown(wait=False)
    try:
        named = applications() if callable(applications) else applications
        _wait_for_controller(start, limit)
        targets = [
            serve.RunTarget(target=app, name=name, route_prefix=(routes or {}).get(name, f"/{name}"))
            for name, app in named.items()
        ]
        if targets:
            serve.run_many(
                targets,
                wait_for_ingress_deployment_creation=False,
                wait_for_applications_running=False,
            )
        yield Starting([*named], start, limit, say, "http" if tls is None else "https")
    finally:
        if take_down:
            taken_down(named, say)


@contextmanager
def deployed(
    applications: Mapping[str, Application] | Callable[[], Mapping[str, Application]], **how: Any
) -> Iterator[str]:
    """Applications by name, up and answering inside the block.

    Args:
        applications, how: see `deploying`.

    Yields:
        The URL that their routes are under, see `Starting.wait`.

    Raises:
        DeploymentError: a service failed to start, or is not up in time; says why.
    """
    with deploying(applications, **how) as starting:
        yield starting.wait()


def taken_down(names: Iterable[str], say: Callable[[str], None]) -> None:
    """End applications, each of which has a minute for it.

    One that takes longer is told of and left to Serve, which goes on ending it: a replica whose host has lost
    its connection is waited for until Ray gives that host up, and what used the service is through by now.
    """
    if not serve_is_up():
        return
    from ray import serve

    for name in names:
        try:
            serve.delete(name)
        except TimeoutError:
            say(f"{name} has not ended within a minute; Serve goes on ending it")


def refuse_taken(host: str, port: int) -> None:
    """See that a port is free, which Serve would only find out in another process.

    Raises:
        DeploymentError: something listens there, or the address is none of this machine's.
    """
    try:
        listened_on(host, port)
    except OSError as error:
        raise DeploymentError(f"{host}:{port} cannot be listened on: {error.strerror or error}") from error


def _wait_for_controller(start: Future[Any], limit: Limit) -> None:
    """Until Serve's controller takes applications, which is before `start` is done, or that has failed."""
    while not start.done():
        if serve_is_up():
            return
        if limit.is_over:
            raise DeploymentError(limit.over_for("Serve's controller, which starts all services"))
        time.sleep(_CONTROLLER_POLL_S)
    start.result()


def serve_is_up() -> bool:
    """Whether this cluster has Serve's controller, which takes applications."""
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True
