"""In place of vLLM as the policy: responses that weights, seed and prompt decide, and nothing else."""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from services.rollout.settings import SamplingSettings
from services.rollout.tables import SampledResponse

LATENCY_S = float(os.environ.get("CHAOS_LATENCY_S", "0.05"))


class PolicyEngine:
    """See `services.rollout.engine.PolicyEngine`."""

    def __init__(self, engine_args: dict[str, Any], transfer: str, tokens: int) -> None:
        self._weights, self._version = b"", 0

    async def label(self, version: int) -> None:
        self._version = version

    async def sample(
        self, prompt_token_ids: np.ndarray, sampling: SamplingSettings, seed: int | None, top_tokens: int = 0
    ) -> list[SampledResponse]:
        await asyncio.sleep(LATENCY_S)
        key = b"|".join((self._weights, str(seed).encode(), prompt_token_ids.tobytes()))
        draw = np.random.default_rng(list(hashlib.sha256(key).digest()))
        return [self._response(draw, sampling) for _ in range(sampling.group_size)]

    def _response(self, draw: np.random.Generator, sampling: SamplingSettings) -> SampledResponse:
        length = int(draw.integers(2, min(24, sampling.max_tokens)))
        tokens = draw.integers(8, 200, size=length, dtype=np.int32)
        tokens[-1] = sampling.stop_token_ids[0]
        values = {
            "response_token_ids": tokens,
            "rollout_logprobs": -draw.uniform(1, 6, size=length).astype(np.float32),
            "policy_versions": np.full(length, self._version, dtype=np.int32),
        }
        return SampledResponse(values, "stop")

    async def begin_update(self) -> None:
        pass

    async def receive(self, update_info: dict[str, Any]) -> None:
        image = Path(update_info["path"])
        self._weights = await asyncio.to_thread(lambda: hashlib.sha256(image.read_bytes()).digest())

    async def end_update(self, version: int) -> None:
        self._version = version

    async def sleep(self) -> None:
        pass

    async def wake(self) -> None:
        pass

    async def check_health(self) -> None:
        pass

    def unfinished(self) -> int:
        return 0

    def shutdown(self) -> None:
        pass
