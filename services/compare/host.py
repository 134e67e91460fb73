"""A Ray for several runs one after another, in which the services of one are there for the next.

`rlad compare` has one for each run that may be at work at a time. It is a process of its own, begun with the
first run and ended with its standard input, so it is gone when `rlad compare` is, however that ends. In a
cluster that is there already (RAY_ADDRESS, ``cluster.address``) only the services are its own. There may be
comparisons of others in it, of folders that are called alike, so their names have something of their own.

    python -m services.compare.host '{"cluster": {...}, "cpus": 9, "services": "kk_tiny-3f9a1c-1"}'
"""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import sys
from pathlib import Path

from rlad_core.config import ClusterConfig, RunConfig
from services.base.own_names import own_name
from services.compare.members import LOGS
from services.serve.deployment import LOOPBACK

NAMED = "services_as"
"""File of a comparison's folder: what its services are called, the same each time it is gone on with, so that
those of a command that was killed are found again."""
_GRACE_S = 120.0
"""For the services to be taken down."""


class HostError(Exception):
    """It did not start; the message says why, and where the whole is."""


class Host:
    """The process, seen from `rlad compare`.

    Args:
        config: of the first run; its section ``cluster`` decides.
        cpus: logical ones, enough for each of the runs.
        services: name that the runs' services have.
        log: what it prints.

    Raises:
        HostError: there is no Ray.
    """

    def __init__(self, config: RunConfig, cpus: int, services: str, log: Path) -> None:
        self.cluster, self._services, self._log = config.cluster, services, log
        what = {"cluster": config.cluster.model_dump(mode="json"), "cpus": cpus, "services": services}
        with log.open("a", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.compare.host", json.dumps(what)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,  # Ctrl-C is for the runs
            )
        self._address = self._ready(config.cluster.start_timeout_s)

    @property
    def overrides(self) -> list[str]:
        """For a run's ``--set``."""
        return [f"cluster.services={self._services}"]

    @property
    def environment(self) -> dict[str, str]:
        """For a run's process."""
        found = {**os.environ, "RAY_ADDRESS": self._address}
        if self._address.startswith(LOOPBACK):  # which Ray takes for the machine's own address otherwise
            found["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        return found

    def close(self) -> None:
        """End it, and the services with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ready(self, limit_s: float) -> str:
        """Its address, once it has told it."""
        stdout, line = self._process.stdout, ""
        assert stdout is not None
        try:
            with selectors.DefaultSelector() as waiting:
                waiting.register(stdout, selectors.EVENT_READ)
                if waiting.select(limit_s):
                    line = stdout.readline()
        finally:
            if not line:
                self._process.kill()
                self._process.wait()
        if not line:
            limit = f"{limit_s:g} s (cluster.start_timeout_s)"
            raise HostError(f"there is no Ray for the runs within {limit}; what it said is in {self._log}")
        return line.strip()


class Hosts:
    """Those of a comparison, by number; each begins with the first run that needs it.

    Args:
        folder: of the comparison.
        cpus: logical ones of each.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, cpus: int) -> None:
        self._folder = folder
        plain = re.sub(r"[^A-Za-z0-9]+", "-", folder.name).strip("-") or "compare"
        self._name = own_name(folder / NAMED, plain)
        self._cpus = cpus
        self._hosts: dict[int, Host] = {}

    def host(self, number: int, config: RunConfig) -> Host:
        """The one with this number, for a run that is to begin there.

        Raises:
            HostError: it does not start.
        """
        if number in self._hosts and self._hosts[number].cluster != config.cluster:
            self.end(number)
        if number not in self._hosts:
            log = self._folder / LOGS / f"ray-{number}.log"
            self._hosts[number] = Host(config, self._cpus, f"{self._name}-{number}", log)
        return self._hosts[number]

    def end(self, number: int) -> None:
        """End it, after a run that may have left it in disorder; the next run gets a new one."""
        if number in self._hosts:
            self._hosts.pop(number).close()

    def close(self) -> None:
        """End all."""
        for number in list(self._hosts):
            self.end(number)


def main(what: str) -> None:
    """The process itself: until its standard input ends."""
    import ray

    from services.clients.handles import ServiceNames
    from services.serve.cluster import cluster, joined_address
    from services.serve.kept import all_taken_down
    from services.weights.policy_store import close_store

    told = json.loads(what)
    settings = ClusterConfig.model_validate(told["cluster"])
    names, joined = ServiceNames(told["services"]), joined_address(settings)
    with cluster(settings, wanted_cpus=told["cpus"]):
        # Ray names the machine's own address, where nothing of ours listens: see `embedded_ray`.
        print(joined or f"{LOOPBACK}:{ray.get_runtime_context().gcs_address.rpartition(':')[2]}", flush=True)
        sys.stdin.read()
        if joined is not None:
            all_taken_down(f"{names.run}-", lambda text: print(text, file=sys.stderr, flush=True))
            close_store(names.policy_store)


if __name__ == "__main__":
    main(sys.argv[1])
