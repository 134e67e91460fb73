"""Has a replica run on another node than the head's, has that node drained, and asks where it is then.

A program of its own, since the cluster of test_on_ray.py is not that of the process of the tests. Both
nodes have one `place`; the head's is taken until the replica is on the other node.
"""

import subprocess
import sys
import time

import ray
from ray import serve
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@ray.remote(num_cpus=0, resources={"place": 1})
class Placeholder:
    def ready(self) -> bool:
        return True


@serve.deployment(
    ray_actor_options={"num_cpus": 0, "resources": {"place": 1}}, graceful_shutdown_timeout_s=20
)
class Where:
    def __call__(self) -> str:
        return ray.get_runtime_context().get_node_id()


def nodes() -> dict[bool, str]:
    """Ids of the nodes with a place, by whether they are the head."""
    alive = [node for node in ray.nodes() if node["Alive"] and "place" in node["Resources"]]
    return {"node:__internal_head__" in node["Resources"]: node["NodeID"] for node in alive}


def main() -> None:
    ray.init(address="auto", log_to_driver=False)
    deadline = time.monotonic() + 90
    while len(nodes()) < 2:
        assert time.monotonic() < deadline, "waited 90 s for the second node"
        time.sleep(0.5)
    head, second = nodes()[True], nodes()[False]
    on_head = NodeAffinitySchedulingStrategy(head, soft=False)
    placeholder = Placeholder.options(scheduling_strategy=on_head).remote()
    assert ray.get(placeholder.ready.remote(), timeout=60)
    serve.start(proxy_location="Disabled")
    handle = serve.run(Where.bind(), name="where", route_prefix=None)
    assert handle.remote().result(timeout_s=60) == second
    ray.kill(placeholder)

    leave = [sys.executable, "-m", "services.leave", "drain", "--within", "90", "--node", second]
    done = subprocess.run(leave, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert handle.remote().result(timeout_s=60) == head


if __name__ == "__main__":
    main()
