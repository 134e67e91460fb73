"""A caller that leaves takes its request with it: the replica does not go on for nobody. In a real Serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from ray import serve
from ray.serve.handle import DeploymentHandle

from services.clients.responses import Responses
from services.rollout.settings import SamplingSettings

GROUP = pa.table({"group_id": ["g"], "prompt_id": ["p"], "prompt_token_ids": [[1, 2]]})


@serve.deployment(max_ongoing_requests=10, ray_actor_options={"num_cpus": 0})
class Endless:
    """Rollouts and a verifier that never come to their end, and say what became of each call."""

    def __init__(self) -> None:
        self._became: dict[str, str] = {}

    async def generate_in_parts(
        self, group: pa.Table, sampling: Any, min_version: int, top_tokens: int
    ) -> AsyncIterator[pa.Table]:
        for index in range(min_version):
            yield pa.table({"sample_index": [index]})
        await self._go_on(f"rollouts after {min_version}")

    async def verify(self, responses: pa.Table) -> None:
        await self._go_on("rewards")

    async def _go_on(self, call: str) -> None:
        self._became[call] = "at work"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._became[call] = "left"
            raise

    async def became(self) -> dict[str, str]:
        return self._became


@pytest.fixture(scope="module")
def endless(ray_cluster: None) -> Iterator[DeploymentHandle]:
    yield serve.run(Endless.bind(), name="endless", route_prefix=None)
    serve.delete("endless")


def sample(responses: Responses, told: int) -> Awaitable[None]:
    settings = SamplingSettings(group_size=8, max_tokens=4)
    return responses.sample_in_parts(GROUP, settings, told, lambda part: None)


CALLS: dict[str, Callable[[Responses], Awaitable[Any]]] = {
    "rollouts after 0": lambda responses: sample(responses, 0),
    "rollouts after 2": lambda responses: sample(responses, 2),
    "rewards": lambda responses: responses.verdicts(GROUP),
}


async def until(handle: DeploymentHandle, call: str, state: str) -> None:
    async with asyncio.timeout(30):
        while (await handle.became.remote()).get(call) != state:  # noqa: ASYNC110, of another process
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("call", CALLS)
def test_a_caller_that_is_cancelled(call: str, endless: DeploymentHandle) -> None:
    async def body() -> None:
        task = asyncio.ensure_future(CALLS[call](Responses(endless, endless, 60.0)))
        await until(endless, call, "at work")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(endless, call, "left")

    asyncio.run(body())


def test_callers_whose_time_is_over(endless: DeploymentHandle) -> None:
    async def body() -> None:
        responses = Responses(endless, endless, 5.0)
        tasks = {call: asyncio.ensure_future(ask(responses)) for call, ask in CALLS.items()}
        for call in CALLS:
            await until(endless, call, "at work")
        for call, task in tasks.items():
            with pytest.raises(TimeoutError, match=f"waited 5 s for {call.split()[0]}"):
                await task
            await until(endless, call, "left")

    asyncio.run(body())
