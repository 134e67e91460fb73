"""A stock vLLM server as a process of its own, which knows nothing of this project: to compare with."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

START_LIMIT_S = 300.0
STOP_LIMIT_S = 60.0


@contextmanager
def stock_server(model: str, name: str, *options: str) -> Iterator[str]:
    """Its URL inside the block, once it answers.

    Args:
        model: a folder or hub id.
        name: what requests call the model.
        options: more of the server's command line.

    Raises:
        RuntimeError: it is not up within `START_LIMIT_S`.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model,
        "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port), *options,
    ]  # fmt: skip
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not _answers(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the stock server is not up after {START_LIMIT_S:g} s")
            time.sleep(1)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.TransportError:
        return False
