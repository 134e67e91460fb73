"""The raylet or the control store is killed: whoever works in that Ray ends at once and says why."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

LIMIT_S = 120.0
HOST = """
import time, ray
from services.serve.cluster import embedded_ray
with embedded_ray(num_cpus=1, services_alone=True, go_on="Begin again."):
    print("127.0.0.1:" + ray.get_runtime_context().gcs_address.rpartition(":")[2], flush=True)
    time.sleep(600)
"""
GUEST = """
import sys, time
from rlad_core.config import ClusterConfig
from services.serve.cluster import cluster
with cluster(ClusterConfig(address=sys.argv[1]), wanted_cpus=1):
    print("joined", flush=True)
    time.sleep(600)
"""


@contextmanager
def running(program: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process, and the first line that it says."""
    command = [sys.executable, "-c", program, *arguments]
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize(("program", "name"), [("raylet", "raylet"), ("gcs_server", "control store")])
def test_its_end_is_told_and_nothing_is_left(program: str, name: str) -> None:
    with running(HOST) as (host, address), running(GUEST, address) as (guest, joined):
        assert joined == "joined"
        started = psutil.Process(host.pid).children(recursive=True)
        killed = next(process for process in started if process.name() == program)
        killed.send_signal(signal.SIGKILL)
        what = f"failed: Ray's {name} (process {killed.pid}) ended, and nothing here works without it."
        _, said = host.communicate(timeout=LIMIT_S)
        assert host.returncode == 1
        assert f"{what} Begin again." in said
        _, said = guest.communicate(timeout=LIMIT_S)
        assert guest.returncode == 1
        assert "failed: Ray's raylet" in said  # the control store of a Ray that is joined is another's
        _, alive = psutil.wait_procs(started, timeout=LIMIT_S)
        assert alive == []
