"""A Ray of one CPU and a task that takes memory until it is killed: `leak` starts this on a small node."""

import json
import sys
import time
from pathlib import Path

import psutil
import ray
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory

from services.serve.cluster import embedded_ray

MIB_A_SECOND = 12
_SOON = 0.72
"""Share of the node up to which it goes fast: what comes then is seen to rise."""


def leak() -> None:
    """Take pages and keep them, a tenth of a second's at a time."""
    kept = []
    while True:
        kept.append(b"x" * int(MIB_A_SECOND * 2**20 / 10))
        if get_used_memory() > _SOON * get_system_memory():
            time.sleep(0.1)


def main(port: int, folder: Path) -> None:
    """Until it is told to end."""
    with embedded_ray(num_cpus=1, object_store_gib=0.1, metrics_port=port):
        (folder / "scrape-leak.json").write_text(json.dumps([{"targets": [f"127.0.0.1:{port}"]}]))
        whole, used = get_system_memory(), get_used_memory()
        print(
            f"a node of {whole} bytes, of which {used} are taken ({psutil.cpu_count()} CPUs); now one leaks"
        )
        sys.stdout.flush()
        try:
            ray.get(ray.remote(num_cpus=1, max_retries=0)(leak).remote())
        except ray.exceptions.OutOfMemoryError as error:
            print(error)
        sys.stdout.flush()
        time.sleep(3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
