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
from services.serve.deployment import deployed, taken_down
from services.serve.kept import kept
from services.weights.policy_store import close_store, policy_store


def service_names(config: RunConfig) -> list[str]:
    """What is started for the run, as a person calls it."""
    taught = config.needs_teacher and config.served_teachers
    return ["Ray", "rollout service", *(["teacher service"] if taught else []), "verifier service"]


@contextmanager
def run_services(config: RunConfig, policy_folder: str, watcher: Watcher) -> Iterator[None]:
    """Services and policy store of the run, as far as they are not up from the one before.

    Raises:
        RunError: another run uses the services that this one would share.
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
    try:
        with deployed(
            {name: application(wanted[name]) for name in new},
            timeout_s=config.cluster.start_timeout_s,
            setting="cluster.start_timeout_s",
            take_down=False,  # below, where it is told what does not end
        ) as url:
            before = f"; up from before: {', '.join(found)}" if found else ""
            watcher.say(f"services are up on {url} ({', '.join(f'/{name}' for name in wanted)}){before}")
            yield
    finally:
        if take_down:
            taken_down(new, watcher.say)
            close_store(names.policy_store)
