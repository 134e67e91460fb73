"""An engine that works is healthy however long it takes; one that hangs is not. Without Ray."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from services.teacher.scoring import torch_engine
from services.teacher.scoring.interface import TokenPair
from services.teacher.scoring.progress import Progress
from services.teacher.scoring.torch_engine import TorchEngine

PAIR = TokenPair(np.array([1], np.int32), np.array([2], np.int32))


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def engine(tiny_model: Any, request: pytest.FixtureRequest) -> Iterator[TorchEngine]:
    made = TorchEngine(
        str(tiny_model.path),
        dtype="float32",
        max_model_len=64,
        logits_memory_bytes=2**20,
        threads=request.param,
        patience_s=60.0,
    )
    yield made
    made.shutdown()


def test_a_long_pass_is_healthy_until_patience_ends(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on, forward = threading.Event(), threading.Event(), engine._forward

    def slow(*batch: Any) -> Any:
        started.set()
        go_on.wait(60)
        return forward(*batch)

    async def scenario() -> None:
        await engine.check_health()
        monkeypatch.setattr(engine, "_forward", slow)
        monkeypatch.setattr(torch_engine, "_PROBE_TIMEOUT_S", 0.05)
        scoring = asyncio.create_task(engine.score([PAIR]))
        await asyncio.to_thread(started.wait, 60)
        await engine.check_health()
        # Its caller gives up: the pass still runs, and that is no fault yet.
        scoring.cancel()
        await engine.check_health()
        # Too old, also where another thread would answer.
        engine._patience_s = 0.0
        await asyncio.sleep(0.1)
        for _ in range(2):
            with pytest.raises(TimeoutError, match="a pass of the torch engine has not ended"):
                await engine.check_health()
        go_on.set()
        monkeypatch.setattr(torch_engine, "_PROBE_TIMEOUT_S", 60.0)
        await engine.check_health()

    asyncio.run(scenario())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_made_while_answers_come() -> None:
    clock = Clock()
    progress = Progress(10.0, clock)
    assert not progress.is_made  # it has nothing to do, so it is to be asked
    first, second = progress.awaited(), progress.awaited()
    first.__enter__()
    clock.now = 8.0
    second.__enter__()
    assert progress.is_made
    clock.now = 9.0
    first.__exit__(None, None, None)
    clock.now = 18.0
    assert progress.is_made
    clock.now = 19.0
    assert not progress.is_made
    second.__exit__(None, None, None)
    assert not progress.is_made


def test_work_that_is_given_up_is_no_answer() -> None:
    clock = Clock()
    progress = Progress(10.0, clock)
    for _ in range(3):  # callers of a hanging engine, each with a time limit of 4 s
        with contextlib.suppress(asyncio.CancelledError), progress.awaited():
            assert progress.is_made
            clock.now += 4.0
            raise asyncio.CancelledError
    with progress.awaited():
        assert not progress.is_made
    with progress.awaited():
        assert progress.is_made


def test_an_error_is_an_answer() -> None:
    clock = Clock()
    progress = Progress(10.0, clock)
    with progress.awaited():
        clock.now = 9.0
        with pytest.raises(ValueError, match="no"), progress.awaited():
            raise ValueError("no")
        clock.now = 18.0
        assert progress.is_made
