"""Pairs of made-up tokens, engines that compute nothing, and a batcher in front of one."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlad_core.client.details import NO_DETAILS, Details
from services.serve.fair import ASKER, Asker
from services.teacher.scoring.batcher import Batcher
from services.teacher.scoring.interface import Scored, TokenPair


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def pair(tokens: int, prompt: np.ndarray | None = None, details: Details = NO_DETAILS) -> TokenPair:
    """A response of `tokens` tokens after a prompt of one, or after this prompt."""
    return TokenPair(ids(0) if prompt is None else prompt, np.arange(tokens, dtype=np.int32), details)


def group(responses: int, tokens: int, prompt: int) -> list[TokenPair]:
    """Responses to one prompt of so many tokens."""
    shared = np.zeros(prompt, dtype=np.int32)
    return [pair(tokens, shared) for _ in range(responses)]


class ScriptedEngine:
    """Answers a response with its own token ids, negated, once the gate is open."""

    max_model_len, vocab_size, shares_prompts, batches_in_flight = 100, 100, True, 1
    tells = frozenset({"top_k"})
    passes_per_batch, hidden_size = 1, 8

    def __init__(self) -> None:
        self.batches: list[list[TokenPair]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.ended_early = 0

    async def score(self, batch: Sequence[TokenPair]) -> list[Scored]:
        self.batches.append(list(batch))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ended_early += 1
            raise
        if self.fault:
            raise self.fault
        return [Scored({"teacher_logprobs": -pair.response.astype(np.float32)}) for pair in batch]

    async def check_health(self) -> None: ...

    def shutdown(self) -> None: ...

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


def run(scenario: Any, budget: int = 100) -> ScriptedEngine:
    async def body() -> ScriptedEngine:
        engine = ScriptedEngine()
        batcher = Batcher(engine, budget)
        await asyncio.wait_for(scenario(engine, batcher), timeout=20)
        await batcher.close()
        return engine

    return asyncio.run(body())


class SteadyEngine(ScriptedEngine):
    """Works on one batch at a time and has the next one at hand."""

    batches_in_flight = 2

    def __init__(self) -> None:
        super().__init__()
        self.done, self._pass = 0, asyncio.Lock()

    async def score(self, batch: Sequence[TokenPair]) -> list[Scored]:
        async with self._pass:
            await asyncio.sleep(0.001)
            self.done += 1
            return await super().score(batch)


async def asked(batcher: Batcher, caller: str, pairs: Sequence[TokenPair]) -> None:
    """A request of a caller."""
    ASKER.set(Asker(caller))
    await batcher.score(pairs)
