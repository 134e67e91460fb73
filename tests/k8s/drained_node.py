"""Has a replica run on another node than the head's, has that node drained, and asks where it is then.

A program of its own, with a cluster of two nodes on the loopback interface: the process of the tests has one
already. Both nodes have one `place`; the head's is taken until the replica is on the other node. Serve's
proxy has to leave that node too: it may have requests for other nodes.
"""

import os
import subprocess
import sys
import time

import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import list_actors


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


def proxies(node: str) -> int:
    alive = [("class_name", "=", "ProxyActor"), ("node_id", "=", node), ("state", "=", "ALIVE")]
    return len(list_actors(filters=alive, timeout=30))


def main(ports: list[int]) -> None:
    dashboard, http, *agents = ports
    os.environ["RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S"] = "2"  # 30 otherwise
    of_every_node = {"num_cpus": 1, "resources": {"place": 1}, "object_store_memory": 100 * 2**20}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            **of_every_node,
            "include_dashboard": True,
            "dashboard_port": dashboard,
            "dashboard_agent_listen_port": agents[0],
        },
    )
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        head = cluster.head_node.node_id
        on_head = NodeAffinitySchedulingStrategy(head, soft=False)
        placeholder = Placeholder.options(scheduling_strategy=on_head).remote()
        assert ray.get(placeholder.ready.remote(), timeout=60)
        second = cluster.add_node(**of_every_node, dashboard_agent_listen_port=agents[1]).node_id
        serve.start(proxy_location="EveryNode", http_options={"host": "127.0.0.1", "port": http})
        handle = serve.run(Where.bind(), name="where", route_prefix=None)
        assert handle.remote().result(timeout_s=60) == second
        deadline = time.monotonic() + 60
        while not proxies(second):
            assert time.monotonic() < deadline, "waited 60 s for a proxy on the second node"
            time.sleep(0.5)
        ray.kill(placeholder)

        leave = [sys.executable, "-m", "services.run.leave", "drain", "--within", "90", "--node", second]
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        done = subprocess.run(
            leave, env=environment, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stderr
        assert not proxies(second)
        assert handle.remote().result(timeout_s=60) == head
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main([int(port) for port in sys.argv[1:]])
