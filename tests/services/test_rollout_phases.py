"""What a call's time goes to: a group in parts, as training asks for it, has the phases of a whole one."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import prometheus_client
import pyarrow as pa
import pytest
from recording import recording_into
from small_tokenizer import TOKENIZER, WORDS

from rlad_core import metrics, schema
from rlad_core.metric_specs import SHARED
from services.base import telemetry
from services.rollout import sampling as module
from services.rollout.sampling import Sampler
from services.rollout.settings import SamplingSettings
from services.rollout.tables import SampledResponse
from services.rollout.turns import EngineTurns

MINE = schema.tokenizer_fingerprint(TOKENIZER.get_vocab())
PROMPT = pa.table(
    {
        "group_id": ["g"],
        "prompt_id": ["p"],
        "prompt_token_ids": pa.array([[4, 5]], type=pa.list_(pa.int32())),
    }
).replace_schema_metadata({b"rlad.tokenizer": MINE.encode()})
SETTINGS = SamplingSettings(group_size=3, max_tokens=4, seed=1)


class Engine:
    """Responses that are asked for one by one do not finish together."""

    async def sample(
        self, prompt: Any, sampling: SamplingSettings, seed: int, top_tokens: int
    ) -> list[SampledResponse]:
        await asyncio.sleep(0.02 * (seed % 3))
        values = {
            "response_token_ids": np.array([6], np.int32),
            "rollout_logprobs": np.array([-1.0], np.float32),
            "policy_versions": np.zeros(1, np.int32),
        }
        return [SampledResponse(values, "stop")] * sampling.group_size


class Held:
    async def reach(self, version: int) -> None: ...


async def whole(sampler: Sampler) -> int:
    return int((await sampler.sample(PROMPT, SETTINGS)).num_rows)


async def in_parts(sampler: Sampler) -> int:
    return sum([int(part.num_rows) async for part in sampler.sample_in_parts(PROMPT, SETTINGS, 0, 0)])


@pytest.mark.parametrize("ask", [whole, in_parts])
def test_a_call_has_each_phase_once(
    ask: Callable[[Sampler], Coroutine[Any, Any, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COMPANY_S", 0.0)  # so that each response is a part
    parts: Any = Engine(), Held(), EngineTurns(8, {}, 1000, lambda: 0), TOKENIZER
    sampler = Sampler(*parts, fingerprint=MINE, vocab_size=len(WORDS), max_model_len=16, timeout_s=30.0)
    registry = prometheus_client.CollectorRegistry()
    with recording_into(registry):
        assert asyncio.run(ask(sampler)) == SETTINGS.group_size

    def told(phase: str) -> float | None:
        labels = {"run": SHARED, "service": "rollout", "phase": phase}
        return registry.get_sample_value(f"{metrics.SERVICE_PHASE_DURATION.name}_count", labels)

    counts = {phase: told(phase) for phase in ("decode", "queue", "engine", "encode")}
    assert counts == dict.fromkeys(counts, 1.0)


def test_a_phase_that_begins_again_for_another_part_is_one() -> None:
    registry = prometheus_client.CollectorRegistry()
    with recording_into(registry), telemetry.phase("rollout", "queue") as phase:
        for _ in range(3):
            phase.change("engine")
    labels = {"run": SHARED, "service": "rollout"}
    name = f"{metrics.SERVICE_PHASE_DURATION.name}_count"
    assert registry.get_sample_value(name, labels | {"phase": "queue"}) == 1.0
    assert registry.get_sample_value(name, labels | {"phase": "engine"}) == 1.0
