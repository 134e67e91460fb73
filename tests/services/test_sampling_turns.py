"""Large groups take turns in parts: who asks for little gets in between, and seeds stay the group's."""

import asyncio
from typing import Any

import numpy as np

from services.rollout.sampling import Sampler
from services.rollout.settings import SamplingSettings
from services.rollout.tables import group_seed
from services.rollout.turns import EngineTurns
from services.serve.fair import ASKER, Asker

ROW = {"group_id": "g", "prompt_token_ids": np.array([1, 2], np.int32)}
PLACES = 8


class Engine:
    """Its responses are their seeds; each call takes some turns of the event loop."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def sample(self, prompt: Any, sampling: SamplingSettings, seed: int, top_tokens: int) -> list[int]:
        self.calls.append(sampling.group_size)
        for _ in range(20):
            await asyncio.sleep(0)
        return [seed + place for place in range(sampling.group_size)]


class Held:
    async def reach(self, version: int) -> None: ...


def sampler_of(engine: Engine) -> Sampler:
    parts: Any = (engine, Held(), EngineTurns(PLACES, {}, 1000, lambda: 0), None)
    return Sampler(*parts, fingerprint="", vocab_size=9, max_model_len=64, timeout_s=30.0)


def test_who_asks_for_little_gets_in_between() -> None:
    engine, order = Engine(), list[str]()
    sampler = sampler_of(engine)

    async def ask(caller: str, responses: int) -> list[Any]:
        ASKER.set(Asker(caller))
        settings = SamplingSettings(group_size=responses, max_tokens=4, seed=3)
        told = await sampler._group(ROW, settings, 0)
        order.append(caller)
        return list(told)

    async def work() -> list[list[Any]]:
        large = asyncio.create_task(ask("large", 41))
        await asyncio.sleep(0)
        return await asyncio.gather(large, *(ask(f"small {number}", 1) for number in range(3)))

    large, *_ = asyncio.run(asyncio.wait_for(work(), 30))
    assert order[-1] == "large"
    first = group_seed(3, "g")
    assert large == [first + place for place in range(41)]
    assert max(engine.calls) == PLACES // 4
    # Beside small ones; three of which came while the first eight had all places.
    assert engine.calls.index(1) <= 8
