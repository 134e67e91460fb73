"""The three services that are attacked: where they answer, and which processes they are."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

SERVICES = ("teacher", "rollout", "verifier")
MIB = 2**20
HEALTH_S = 1.0
"""Within which health answers, whatever else is asked."""
LONGEST_HEALTH_S = 10 * HEALTH_S
"""After which it is taken for no answer."""

#: Small requests, by service: path, body, and what of the answer must be the same each time.
PATHS = {
    "teacher": "/teacher/v1/score",
    "rollout": "/rollout/v1/rollouts",
    "verifier": "/verifier/v1/verify",
}
SMALL: dict[str, Any] = {
    "teacher": {"sequences": [{"prompt_token_ids": [5, 6], "response_token_ids": [7, 8, 9]}]},
    "rollout": {
        "prompts": [{"prompt_token_ids": [5, 6]}],
        "sampling": {"group_size": 1, "max_tokens": 4, "seed": 1},
    },
    "verifier": {"task": "math", "gold": {"answer": "5"}, "responses": [{"response": "\\boxed{5}"}]},
}
LOAD = {"teacher": "/teacher/v1/info", "rollout": "/rollout/v1/policy", "verifier": "/verifier/v1/info"}
TOLD = {"teacher": "logprobs", "rollout": "token_ids", "verifier": "reward"}


@dataclass(frozen=True)
class Effort:
    """How much is sent.

    Args:
        long: as much as it takes to be sure; else what is right for every day.
        requests: that the OpenAPI documents are turned into.
        health_s: within which health has to answer; more than `HEALTH_S` where the machine's cores are shared
            with something that is no part of it.
    """

    long: bool = False
    requests: int = 300
    health_s: float = HEALTH_S


@dataclass(frozen=True)
class Target:
    """Services under ``/teacher``, ``/rollout`` and ``/verifier`` of a URL.

    Args:
        root: the process that all of theirs descend from.
    """

    url: str
    root: int

    def processes(self, name: str) -> list[psutil.Process]:
        """Those whose command has a word: ``ServeReplica:teacher``, ``ServeController``, ``ProxyActor``,
        ``EngineCore``.
        """
        return [each for each in psutil.Process(self.root).children(recursive=True) if name in _command(each)]

    def replica(self, service: str) -> psutil.Process:
        """The service's only replica."""
        [process] = self.processes(f"ServeReplica:{service}")
        return process

    def client(self, timeout_s: float = 120.0) -> httpx.Client:
        """One connection to them."""
        return httpx.Client(base_url=self.url, timeout=timeout_s)

    def is_right(self, service: str, answer: httpx.Response) -> bool:
        """Whether it is the answer to the service's small request that a quiet service gives."""
        if answer.status_code != 200:
            return False
        [result] = answer.json()["results"]
        return alike(result[TOLD[service]], self.expected(service))

    def expected(self, service: str) -> Any:
        """What the service's small request comes to, asked once and remembered."""
        if (self.url, service) not in _EXPECTED:
            with self.client() as http:
                answer = http.post(PATHS[service], json=SMALL[service]).raise_for_status()
            _EXPECTED[self.url, service] = answer.json()["results"][0][TOLD[service]]
        return _EXPECTED[self.url, service]

    def wait_until_idle(self, service: str, limit_s: float) -> float:
        """Seconds until the service has no request, and no work.

        Raises:
            TimeoutError: it still has; says what.
        """
        with self.client() as http:
            load: dict[str, Any] = {}

            def idle() -> bool:
                load.update(http.get(LOAD[service]).raise_for_status().json()["load"])
                return load["requests"] == 0 and load["waiting"] == 0

            try:
                return self.wait_until(idle, f"{service} is idle", limit_s)
            except TimeoutError as error:
                raise TimeoutError(f"{error}: {load}") from error

    @contextmanager
    def health_asked(self, *services: str) -> Iterator[list[float]]:
        """Seconds that each of many requests for health took inside the block; each was answered."""
        took: list[float] = []
        done = threading.Event()

        def ask() -> None:
            with self.client(LONGEST_HEALTH_S) as http:
                while True:
                    for service in services:
                        began = time.perf_counter()
                        http.get(f"/{service}/healthz").raise_for_status()
                        took.append(time.perf_counter() - began)
                    if done.wait(0.05):
                        return

        with ThreadPoolExecutor(1) as thread:
            asking = thread.submit(ask)
            try:
                yield took
            finally:
                done.set()
                asking.result()

    def wait_until(self, holds: Callable[[], bool], what: str, limit_s: float = 180.0) -> float:
        """Seconds until something holds.

        Raises:
            TimeoutError: it does not come to hold.
        """
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > limit_s:
                raise TimeoutError(f"waited {limit_s:g} s until {what}")
            time.sleep(0.1)
        return time.monotonic() - began

    def wait_until_right(self, service: str, limit_s: float = 180.0) -> float:
        """Seconds until the service answers its small request as before."""

        def right() -> bool:
            try:
                with self.client(10.0) as http:
                    return self.is_right(service, http.post(PATHS[service], json=SMALL[service]))
            except httpx.TransportError:
                return False

        return self.wait_until(right, f"{service} answers again", limit_s)


_EXPECTED: dict[tuple[str, str], Any] = {}


def alike(one: Any, other: Any) -> bool:
    """Whether numbers, or lists of them, are the same but for rounding."""
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(abs(one - other) < 1e-4)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
