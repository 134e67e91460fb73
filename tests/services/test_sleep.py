"""Engines that sleep while the learner works: who waits, who is refused, and weights that are looked at."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch
from model_kinds import ROWS, TOKENS, write
from ray import serve

from rlad_core import schema
from services.rollout.settings import SamplingSettings
from services.serve.resting import UnsoundWeightsError
from services.teacher.scoring.interface import TokenPair
from services.teacher.scoring.torch_engine import TorchEngine

pytestmark = pytest.mark.timeout(900)


def _engine(folder: Path) -> TorchEngine:
    return TorchEngine(
        str(folder),
        dtype="float32",
        max_model_len=128,
        logits_memory_bytes=4 * 64 * ROWS,
        threads=1,
        tokens=TOKENS,
    )


def test_a_teacher_s_scores_wait_and_are_what_they_were(tmp_path: Path) -> None:
    ids = np.arange(1, 9, dtype=np.int32)
    pairs = [TokenPair(ids, ids[:5]), TokenPair(ids[:2], ids)]

    async def scenario(engine: TorchEngine) -> None:
        before = await engine.score(pairs)
        await engine.sleep()
        assert engine.asleep
        await engine.check_health()  # one that sleeps is not to be replaced
        waiting = asyncio.create_task(engine.score(pairs))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await engine.wake()
        for old, new in zip(before, await waiting, strict=True):
            np.testing.assert_array_equal(old.values["teacher_logprobs"], new.values["teacher_logprobs"])

    engine = _engine(write("qwen3", tmp_path))
    asyncio.run(scenario(engine))
    engine.shutdown()


def test_weights_that_changed_in_their_sleep_are_not_used(tmp_path: Path) -> None:
    async def scenario(engine: TorchEngine) -> None:
        await engine.sleep()
        with torch.no_grad():
            next(engine._model.parameters()).view(-1)[7] += 1e-3
        with pytest.raises(UnsoundWeightsError, match=r"1 of \d+ weights differ: model.embed_tokens.weight"):
            await engine.wake()
        assert engine.asleep
        with pytest.raises(UnsoundWeightsError):
            await engine.check_health()

    engine = _engine(write("qwen3", tmp_path))
    asyncio.run(scenario(engine))
    engine.shutdown()


@pytest.mark.slow
def test_a_sleeping_service_refuses_strangers_and_lets_its_run_wait(http: httpx.Client) -> None:
    """vLLM on CPUs is paused and keeps its memory; all else is as on GPUs."""
    rows = pa.table(
        {
            "group_id": ["g"],
            "prompt_id": ["g"],
            "prompt_token_ids": pa.array([[4, 5, 6]], pa.list_(pa.int32())),
        }
    )
    rollout, teacher = (serve.get_app_handle(name) for name in ("rollout", "teacher"))
    # A token that ends no response, so that all of them are in work for a while.
    sampling = SamplingSettings(group_size=16, max_tokens=300, seed=3, stop_token_ids=(2,))
    before = rollout.generate.remote(rows, sampling).result(timeout_s=120)
    sequences = schema.to_sequences(before)
    scores = teacher.score.remote(sequences).result(timeout_s=120)

    running = rollout.generate.remote(rows, sampling)
    _wait_until(lambda: sum(_told(rollout, "unfinished")) > 0)
    for handle in (rollout, teacher):
        assert _told(handle, "sleep")[0]["replica"]
        assert _told(handle, "sleep"), "once more does nothing"
    try:
        scored = teacher.score.remote(sequences)
        for path, asked in (
            (
                "/rollout/v1/rollouts",
                {"prompts": [{"prompt_token_ids": [4]}], "sampling": {"group_size": 1, "max_tokens": 4}},
            ),
            ("/teacher/v1/score", {"sequences": [{"prompt_token_ids": [4], "response_token_ids": [5]}]}),
        ):
            refused = http.post(path, json=asked)
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["title"] == "The engine sleeps"
            assert http.get(f"/{path.split('/')[1]}/readyz").status_code == 503
            assert http.get(f"/{path.split('/')[1]}/healthz").status_code == 200
        for handle in (rollout, teacher):
            handle.check_health.remote().result(timeout_s=60)
        for waiting in (running, scored):
            with pytest.raises(TimeoutError):
                waiting.result(timeout_s=0.2)
    finally:
        for handle in (rollout, teacher):
            _told(handle, "wake")
    woken = running.result(timeout_s=120)
    assert woken["response_token_ids"].to_pylist() == before["response_token_ids"].to_pylist()
    assert scored.result(timeout_s=120).equals(scores)
    assert http.get("/teacher/readyz").status_code == 200


def _told(handle: Any, method: str) -> list[Any]:
    answers: list[Any] = handle.broadcast(method).results(timeout_s=120)
    return answers


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
