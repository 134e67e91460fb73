"""A teacher whose caller has another tokenizer, and then one that is asked more than it can do."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.prometheus.fire.processes import started, wait
from deploy.prometheus.fire.watching import Watching
from services.base.ports import free_port

_QUEUE_TOKENS = 2000
_CALLERS = 6
_UNKNOWN = {"sequences": [{"id": "a", "prompt_token_ids": [10**6], "response_token_ids": [7]}]}
_LARGE = {
    "sequences": [
        {"id": str(n), "prompt_token_ids": [5] * 20, "response_token_ids": [7] * 80} for n in range(16)
    ]
}


def strike(folder: Path, watching: Watching) -> None:
    """See RladTeacherErrors and RladQueueSaturated."""
    folder.mkdir(exist_ok=True)
    port, metrics_port, log = free_port(), free_port(), folder / "teacher.log"
    command = [
        *(sys.executable, "-m", "services", "serve", "teacher", "--model", "rlad:kk-teacher"),
        *("--port", str(port), "--metrics-port", str(metrics_port)),
        *("--set", f"limits.max_queued_tokens={_QUEUE_TOKENS}"),
    ]
    url = f"http://127.0.0.1:{port}"
    (folder / "scrape-teacher.json").write_text(json.dumps([{"targets": [f"127.0.0.1:{metrics_port}"]}]))
    with started(command, log) as process:
        wait(lambda: _ready(url), "the teacher's answer", process, log)

        def alive() -> bool:
            return process.poll() is None

        with asking(f"{url}/v1/score", _UNKNOWN, callers=1, pause_s=0.2):
            watching.fires(
                "RladTeacherErrors",
                "a caller sends token ids that the teacher's tokenizer has not",
                alive=alive,
            )
        watching.resolves("RladTeacherErrors")
        with asking(f"{url}/v1/score", _LARGE, callers=_CALLERS, pause_s=0.0):
            watching.fires(
                "RladQueueSaturated",
                f"{_CALLERS} callers ask for more at a time than the queue's {_QUEUE_TOKENS} tokens",
                alive=alive,
            )
        watching.resolves("RladQueueSaturated")
    (folder / "scrape-teacher.json").unlink()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).is_success
    except httpx.TransportError:
        return False


@contextmanager
def asking(url: str, body: object, *, callers: int, pause_s: float) -> Iterator[None]:
    """Callers that ask again and again, whatever they are answered, until the block ends."""
    enough = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not enough.wait(pause_s):
                try:
                    client.post(url, json=body)
                except httpx.TransportError:
                    enough.wait(1.0)

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()
