"""A Ray cluster over three hosts: the head, where runs are started; one that serves; one that learns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.hosts.namespaces import ROOT, Host, Switch, switch

PORT = 6379
ROLES = ("head", "serving", "learning")
PLACED = (
    "rollout.node_labels={role: serving}",
    "teacher.node_labels={role: serving}",
    "learner.node_labels={role: learning}",
)
_CPUS = 6
_START_S, _START_ATTEMPTS = 300, 3
_STORE_BYTES = 120 * 2**20


@dataclass
class RayHosts:
    """Hosts by role, each with a Ray node of that label.

    environment: of all that is started on them. runs: the folder that they share.
    """

    switch: Switch
    runs: Path
    environment: dict[str, str]
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Of the cluster."""
        return f"{self.hosts['head'].address}:{PORT}"

    def join(self, *roles: str) -> None:
        """New hosts with these roles, each in the place of the one that had it."""
        for role in roles:
            self.hosts[role] = self.switch.host()
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._begin, roles))

    def _begin(self, role: str) -> None:
        host = self.hosts[role]
        place = ["--head", f"--port={PORT}"] if role == "head" else [f"--address={self.address}"]
        options = (
            *(f"--node-ip-address={host.address}", f"--labels=role={role}", f"--num-cpus={_CPUS}"),
            *(f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats"),
            *(["--include-dashboard=false"] if role == "head" else []),
        )
        ray = str(Path(sys.executable).with_name("ray"))
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                host.run(ray, "start", *place, *options, environment=self.environment, limit_s=_START_S)
                return
            except AssertionError:  # Ray gives its node 30 s, which a busy machine may not keep
                if attempt == _START_ATTEMPTS:
                    raise
                host.run(ray, "stop", "--force", environment=self.environment)

    def remove(self, role: str) -> None:
        """The host is gone from one moment to the next."""
        self.switch.remove(self.hosts.pop(role))

    def rlad(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the command on the head; what it prints is added to a file beside the runs."""
        command = (sys.executable, "-m", "services", *words)
        return self.hosts["head"].start(*command, environment=self.environment, log=self.runs / "said.log")


@contextmanager
def ray_hosts(runs: Path, stubs: Sequence[Path] = ()) -> Iterator[RayHosts]:
    """Three hosts with Ray.

    Args:
        runs: the folder that they share.
        stubs: what all their processes import first.

    Raises:
        UnavailableError: see `switch`.
    """
    of_ours = ("RAY_", "RLAD_", "PYTEST_", "TMPDIR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(of_ours)}
    environment |= {
        "PYTHONPATH": os.pathsep.join(map(str, [*stubs, ROOT])),
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "OMP_NUM_THREADS": "1",
    }
    with switch(runs) as made:
        cluster = RayHosts(made, runs, environment)
        head, *others = ROLES
        cluster.join(head)
        cluster.join(*others)
        yield cluster
