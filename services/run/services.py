"""The run's services and its policy store, for as long as it needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rlad_core.config import RunConfig
from services.clients.handles import ServiceNames
from services.run.actors import refuse_in_use
from services.run.applications import application, service_args
from services.run.watch import Watcher
from services.serve.cluster import joined_address
from services.serve.deployment import deploying, taken_down
from services.serve.kept import kept
from services.serve.starting import Starting
from services.weights.policy_store import close_store, policy_store


def service_names(config: RunConfig) -> list[str]:
    """What is started for the run, as a person calls it."""
    taught = config.needs_teacher and config.served_teachers
    return ["Ray", "rollout service", *(["teacher service"] if taught else []), "verifier service"]


class ServicesOfRun:
    """Those of a run, on their way up.

    Args:
        starting: those that are new.
        told: what a person is told of the others.
        paths: where all of them answer.
        watcher: shows it.
    """

    def __init__(self, starting: Starting, told: str, paths: str, watcher: Watcher) -> None:
        self._starting, self._told, self._paths, self._watcher = starting, told, paths, watcher
        self._up = False

    def wait_for_one(self) -> None:
        """See `Starting.wait_for_one`."""
        self._starting.wait_for_one()

    def wait(self) -> None:
        """See `Starting.wait`; where they are up already this does nothing."""
        if not self._up:
            url = self._starting.wait()
            self._watcher.say(f"services are up on {url} ({self._paths}){self._told}")
            self._up = True


@contextmanager
def run_services(config: RunConfig, policy_folder: str, watcher: Watcher) -> Iterator[ServicesOfRun]:
    """Services and policy store of the run, as far as they are not up from the one before.

    Raises:
        RunError: another run uses the services that this one would share.
        DeploymentError: Serve does not start.
    """
    names = ServiceNames(config.services_name)
    wanted = service_args(config, policy_folder)
    found: list[str] = []
    if config.cluster.services is not None:
        refuse_in_use(config)
        found = kept(wanted, watcher.say)
        if names.of("rollout") not in found:  # new engines would begin with what the one before published
            close_store(names.policy_store)
    new = [name for name in wanted if name not in found]
    policy_store(names.policy_store)
    # A cluster of our own ends anyway, and all in it.
    take_down = joined_address(config.cluster) is not None and config.cluster.services is None
    told = f"; up from before: {', '.join(found)}" if found else ""
    try:
        with deploying(
            {name: application(wanted[name]) for name in new},
            timeout_s=config.cluster.start_timeout_s,
            setting="cluster.start_timeout_s",
            take_down=False,  # below, where it is told what does not end
        ) as starting:
            yield ServicesOfRun(starting, told, ", ".join(f"/{name}" for name in wanted), watcher)
    finally:
        if take_down:
            taken_down(new, watcher.say)
            close_store(names.policy_store)
