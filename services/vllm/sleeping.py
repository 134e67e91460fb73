"""vLLM's sleep mode: weights go to host memory, keys and values are dropped, and requests wait.

Its level 1. An engine on GPUs needs ``enable_sleep_mode``; one on CPUs is paused and keeps its memory.
"""

from collections.abc import Mapping

from vllm.v1.engine.async_llm import AsyncLLM

from services.serve.resting import compare_weights


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

    async def sleep(self) -> None:
        """Stop at the next token and give the memory back. Running requests are kept: their keys and values
        are computed again after `wake`, which new ones wait for too.
        """
        if not self.asleep:
            self._digests = await self._weights()
            self.asleep = True
            await self._engine.sleep(level=1, mode="keep")

    async def wake(self) -> None:
        """Go on, once the weights are known to be those from before.

        Raises:
            UnsoundWeightsError: they are not; the engine stays paused.
        """
        if self.asleep:
            await self._engine.wake_up(["weights"])
            compare_weights(self._digests, await self._weights())
            await self._engine.wake_up(["kv_cache"])
            self.asleep = False

    async def _weights(self) -> dict[str, str]:
        """Digests by worker and parameter."""
        return {
            name: digest
            for each in await self._engine.compute_weight_checksums()
            for name, digest in each.items()
        }
