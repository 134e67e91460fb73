"""In place of the teacher's forward pass: log-probs that prompt and response decide, and nothing else."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.teacher.scoring.interface import Scored, TokenPair

LATENCY_S = 0.05


class TorchEngine:
    """See `services.teacher.scoring.interface.SleepingEngine`."""

    shares_prompts = False
    tells = frozenset({"end_token_ids", "plain"})
    batches_in_flight = 2
    passes_per_batch = 1
    hidden_size = 8
    asleep = False

    def __init__(self, model: str, *, max_model_len: int, tokens: int, **others: Any) -> None:
        self.max_model_len, self.vocab_size = max_model_len, tokens

    async def score(self, batch: Sequence[TokenPair]) -> list[Scored]:
        await asyncio.sleep(LATENCY_S)
        return [self._scored(pair) for pair in batch]

    def _scored(self, pair: TokenPair) -> Scored:
        state, values = zlib.crc32(pair.prompt.tobytes()), []
        for token in pair.response:
            state = zlib.crc32(token.tobytes(), state)
            values.append(-0.01 - 5 * state / 2**32)
        told = {"teacher_logprobs": np.asarray(values, dtype=np.float32)}
        if pair.details.end_token_ids:
            told["teacher_end_logprobs"] = np.full(len(values), -4.0, dtype=np.float32)
        return Scored(told)

    async def weights(self) -> str:
        return "sums:stub"

    async def sleep(self) -> None:
        pass

    async def wake(self) -> None:
        pass

    async def check_health(self) -> None:
        pass

    def shutdown(self) -> None:
        pass
