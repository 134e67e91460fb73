"""A Ray whose node does not answer ends what waits for it."""

import subprocess
import sys

import psutil
import pytest

pytestmark = pytest.mark.slow

HANGS = """
import time
from functools import partial

from ray._private import worker

from services.serve import cluster
from services.serve.start_limit import start_limit

def connect(*_, **__):
    [raylet] = worker._global_node.all_processes["raylet"]
    print(raylet.process.pid, flush=True)
    time.sleep(600)  # as Ray waits for its node: longer than anybody does

worker.connect = connect
cluster.start_limit = partial(start_limit, 1, 1)
with cluster.embedded_ray(num_cpus=1, object_store_gib=0.1, services_alone=True):
    print("it is up", flush=True)
"""


def test_a_node_that_does_not_answer_is_told_and_ended() -> None:
    told = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=280)
    assert told.returncode == 1, told
    assert "Ray's node did not answer within 1 s of its start; its logs are in /" in told.stderr
    assert "it is up" not in told.stdout
    raylet = int(told.stdout.split()[0])
    assert not psutil.pid_exists(raylet)
