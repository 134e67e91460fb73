"""Engines that sleep while the learner works: who waits, who is refused, and weights that are looked at."""

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace
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
from services.serve.weight_digests import UnsoundWeightsError
from services.teacher.scoring.interface import TokenPair
from services.teacher.scoring.torch_engine import TorchEngine
from services.vllm.sleeping import Sleeper
from services.vllm.weight_hashes import WeightHashes

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


async def _answered(engine: TorchEngine | Sleeper, moved: list[str], go: threading.Event) -> list[str]:
    """What had moved when two calls of `sleep`, and a `wake` after them, were answered."""

    async def told(name: str) -> str:
        await getattr(engine, name)()
        return f"{name} after {' '.join(moved)}"

    asked = [asyncio.create_task(told(name)) for name in ("sleep", "sleep", "wake")]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in asked)
    go.set()
    return list(await asyncio.gather(*asked))


def test_whoever_asks_again_is_answered_when_the_weights_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, moved, go = _engine(write("qwen3", tmp_path)), list[str](), threading.Event()
    rest, back = engine._weights.sleep, engine._weights.wake

    def slowly() -> None:
        assert go.wait(30)
        rest()
        moved.append("rest")

    def at_once() -> None:
        moved.append("back")
        back()

    monkeypatch.setattr(engine._weights, "sleep", slowly)
    monkeypatch.setattr(engine._weights, "wake", at_once)
    answers = asyncio.run(_answered(engine, moved, go))
    assert answers == ["sleep after rest", "sleep after rest", "wake after rest back"]
    engine.shutdown()


class _SlowToSleep:
    """What `Sleeper` uses of vLLM's engine."""

    def __init__(self, moved: list[str], go: threading.Event) -> None:
        self._moved, self._go = moved, go

    async def collective_rpc(self, method: str) -> list[dict[str, str]]:
        return [{"weight": "1"}]

    async def sleep(self, level: int, mode: str) -> None:
        assert await asyncio.to_thread(self._go.wait, 30)
        self._moved.append("rest")

    async def wake_up(self, tags: list[str]) -> None:
        self._moved += ["back"] if tags == ["kv_cache"] else []


def test_so_is_whoever_asks_a_vllm_engine_again() -> None:
    moved, go = list[str](), threading.Event()
    engine: Any = _SlowToSleep(moved, go)
    answers = asyncio.run(_answered(Sleeper(engine), moved, go))
    assert answers == ["sleep after rest", "sleep after rest", "wake after rest back"]


class _Workers:
    """What `Sleeper` uses of a vLLM engine whose model lies in several processes."""

    def __init__(self, models: list[torch.nn.Module]) -> None:
        self._workers = [WeightHashes() for _ in models]
        self.awake = list[str]()
        for worker, model in zip(self._workers, models, strict=True):
            worker.model_runner = SimpleNamespace(get_model=lambda model=model: model)

    async def collective_rpc(self, method: str) -> list[dict[str, str]]:
        return [getattr(worker, method)() for worker in self._workers]

    async def sleep(self, level: int, mode: str) -> None: ...

    async def wake_up(self, tags: list[str]) -> None:
        self.awake += tags


@pytest.mark.parametrize(
    ("workers", "named"),
    [(1, "1 of 2 weights differ: bias$"), (2, "1 of 4 weights differ: bias of worker 1$")],
)
def test_a_vllm_engine_whose_weights_changed_stays_paused(workers: int, named: str) -> None:
    models = [torch.nn.Linear(3, 2) for _ in range(workers)]
    engine: Any = _Workers([*models])

    async def scenario() -> None:
        sleeper = Sleeper(engine)
        await sleeper.sleep()
        await sleeper.wake()
        await sleeper.sleep()
        with torch.no_grad():
            models[-1].bias[1] += 1e-6
        engine.awake.clear()
        with pytest.raises(UnsoundWeightsError, match=named):
            await sleeper.wake()
        assert sleeper.asleep
        assert engine.awake == ["weights"], "no keys and values, which requests would go on with"

    asyncio.run(scenario())


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
