"""What many ask is asked once: readiness, which anybody may ask for, and hashes of weights."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from rlad_core import schema
from rlad_core.client.details import Details
from rlad_core.client.errors import NotReadyError
from rlad_core.client.made_with import made_with_of
from services.serve.asked_once import AskedOnce
from services.serve.http.health import Intake
from services.serve.replica_settings import ReplicaArgs
from services.teacher.making import Making
from services.teacher.scoring.interface import TokenPair
from services.teacher.scoring.torch_engine import TorchEngine
from services.teacher.settings import TeacherArgs


class Question:
    """Asked again and again; each time takes some seconds of its clock, and may fail."""

    def __init__(self) -> None:
        self.now, self.asked, self.fails = 0.0, 0, False

    async def ask(self) -> int:
        self.asked += 1
        mine, fails = self.asked, self.fails
        await asyncio.sleep(0)
        self.now += 2.0
        if fails:
            raise ValueError(f"the answer {mine}")
        return mine

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_for_all_who_ask_meanwhile_and_a_while_later() -> None:
    async def body() -> None:
        clock = Question()
        question = AskedOnce(clock.ask, kept_s=1.0, times=3.0, clock=clock)
        assert await asyncio.gather(*(question() for _ in range(50))) == [1] * 50
        clock.now += 6.9  # three times two seconds, and one
        assert await question() == 1
        clock.now += 0.2
        assert await question() == 2

    asyncio.run(body())


def test_a_failure_is_for_all_too_and_not_for_ever() -> None:
    async def body() -> None:
        clock = Question()
        question = AskedOnce(clock.ask, kept_s=1.0, clock=clock)
        clock.fails = True
        told = await asyncio.gather(*(question() for _ in range(50)), return_exceptions=True)
        assert {str(each) for each in told} == {"the answer 1"}
        clock.fails = False
        with pytest.raises(ValueError, match="the answer 1"):
            await question()
        clock.now += 1.0
        assert await question() == 2

    asyncio.run(body())


def test_who_leaves_does_not_end_it_for_the_others() -> None:
    async def body() -> None:
        clock = Question()
        question = AskedOnce(clock.ask, clock=clock)
        first, second = asyncio.create_task(question()), asyncio.create_task(question())
        await asyncio.sleep(0)
        first.cancel()
        assert (await second, clock.asked) == (1, 1)
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(body())


@pytest.fixture
def engine(tiny_model: Any) -> Iterator[TorchEngine]:
    made = TorchEngine(
        str(tiny_model.path), dtype="float32", max_model_len=64, logits_memory_bytes=2**20, threads=1
    )
    yield made
    made.shutdown()


def test_readiness_takes_one_pass_of_an_engine_however_many_ask(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, forward = 0, engine._forward

    def counted(*batch: Any) -> Any:
        nonlocal passes
        passes += 1
        return forward(*batch)

    async def body() -> None:
        monkeypatch.setattr(engine, "_forward", counted)
        intake = Intake("teacher", engine.check_health, "the engine", ReplicaArgs())
        probes = [asyncio.create_task(intake.ready()) for _ in range(200)]
        await asyncio.sleep(0)
        [scored] = await engine.score([TokenPair(np.array([1], np.int32), np.array([2], np.int32))])
        assert np.isfinite(scored.values["teacher_logprobs"]).all()
        assert {each.status for each in await asyncio.gather(*probes)} == {"ready"}
        await intake.check()  # as Serve asks
        assert passes == 2

    asyncio.run(body())


def test_what_does_not_answer_is_told_to_all(engine: TorchEngine) -> None:
    async def body() -> None:
        engine._fault = RuntimeError("it broke")
        intake = Intake("teacher", engine.check_health, "the engine", ReplicaArgs())
        told = await asyncio.gather(*(intake.ready() for _ in range(3)), return_exceptions=True)
        assert [str(each) for each in told] == ["the engine does not answer: it broke"] * 3
        assert all(isinstance(each, NotReadyError) for each in told)

    asyncio.run(body())


def test_weights_are_hashed_once_for_all_who_ask_for_it(
    engine: TorchEngine, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes, weights = 0, engine.weights

    async def counted() -> str:
        nonlocal hashes
        hashes += 1
        return await weights()

    async def body() -> None:
        monkeypatch.setattr(engine, "weights", counted)
        tokenizer = AutoTokenizer.from_pretrained(Path(tiny_model.path))
        making = Making(engine, TeacherArgs(model="tiny"), tokenizer, "sha256:mine")
        await making.look()
        assert (hashes, making.told.weights) == (1, await weights())
        making._hash._until = 0.0
        several = [making.marked(scores(), Details(plain=True)) for _ in range(20)]
        for told in await asyncio.gather(*several, making.marked(scores(), Details())):
            assert made_with_of(told) == making.told
        assert hashes == 2

    asyncio.run(body())


def scores() -> pa.Table:
    return schema.build(
        schema.TEACHER_SCORES,
        {"sequence_id": ["a"], "teacher_logprobs": [[-1.0]]},
        tokenizer_fingerprint="sha256:mine",
    )
