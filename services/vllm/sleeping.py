"""vLLM's sleep mode: weights go to host memory, keys and values are dropped, and requests wait.

Its level 1. An engine on GPUs needs ``enable_sleep_mode``; one on CPUs is paused and keeps its memory. All
need the worker class of `services.vllm.weight_hashes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from services.serve.weight_digests import compare_weights
from services.vllm.ended import told_as_lost

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


class Sleeper:
    """The sleep of one engine.

    Args:
        engine: running.

    Attributes:
        asleep: whether it sleeps.
    """

    def __init__(self, engine: AsyncLLM) -> None:
        self._engine = engine
        self._digests: Mapping[str, str] = {}
        self.asleep = False
        self._moving = asyncio.Lock()  # whoever asks again is answered when the weights have moved

    async def sleep(self) -> None:
        """Stop at the next token and give the memory back. Running requests are kept: their keys and values
        are computed again after `wake`, which new ones wait for too.

        Raises:
            EngineLostError: the engine's process has ended.
        """
        async with self._moving:
            if not self.asleep:
                with told_as_lost("fell asleep"):
                    self._digests = await self._weights()
                    self.asleep = True
                    await self._engine.sleep(level=1, mode="keep")

    async def wake(self) -> None:
        """Go on, once the weights are known to be those from before.

        Raises:
            UnsoundWeightsError: they are not; the engine stays paused.
            EngineLostError: the engine's process has ended.
        """
        async with self._moving:
            if self.asleep:
                with told_as_lost("woke up"):
                    await self._engine.wake_up(["weights"])
                    compare_weights(self._digests, await self._weights())
                    await self._engine.wake_up(["kv_cache"])
                self.asleep = False

    async def _weights(self) -> dict[str, str]:
        """Digests of each worker's part of the model."""
        by_worker = await self._engine.collective_rpc("rlad_weight_sums")
        if len(by_worker) == 1:
            return dict(by_worker[0])
        return {
            f"{name} of worker {number}": digest
            for number, each in enumerate(by_worker)
            for name, digest in each.items()
        }
