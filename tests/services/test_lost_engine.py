"""A replica ends with its engine, whichever way it was asked."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn

import numpy as np
import pytest
from small_tokenizer import TOKENIZER, WORDS
from test_rollout_phases import MINE, PROMPT, SETTINGS

from rlad_core.client.details import NO_DETAILS
from services.rollout.sampling import Sampler
from services.rollout.turns import EngineTurns
from services.rollout.writer import Writer
from services.rollout.writing import Wish
from services.serve import lost_engine
from services.serve.http.health import Intake
from services.serve.lost_engine import EngineLostError
from services.teacher.scorer import Scorer
from services.teacher.scoring.interface import TokenPair
from services.teacher.settings import TeacherArgs


class Ended(Exception):
    """In place of the process's end."""


@pytest.fixture(autouse=True)
def _ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> NoReturn:
        assert code == 1
        raise Ended

    monkeypatch.setattr(lost_engine.os, "_exit", end)


class Lost:
    """An engine of any of the services."""

    shares_prompts, batches_in_flight, passes_per_batch = False, 1, 1
    hidden_size = vocab_size = max_model_len = 8
    tells = frozenset[str]()

    async def sample(self, *_: Any) -> NoReturn:
        raise EngineLostError("it has ended")

    score = sample

    async def write(self, *_: Any, in_pieces: bool) -> AsyncGenerator[Any, None]:
        raise EngineLostError("it has ended")
        yield


class Held:
    async def reach(self, version: int) -> None: ...


def parts() -> Any:
    return Lost(), Held(), EngineTurns(8, {}, 1000, lambda: 0)


def sampler() -> Sampler:
    settings: dict[str, Any] = {"fingerprint": MINE, "vocab_size": len(WORDS), "max_model_len": 16}
    return Sampler(*parts(), TOKENIZER, **settings, timeout_s=9.0)


async def sampled() -> None:
    await sampler().sample(PROMPT, SETTINGS)


async def sampled_in_parts() -> None:
    async for _ in sampler().sample_in_parts(PROMPT, SETTINGS, 0, 0):
        pass


async def written() -> None:
    wish = Wish(np.array([1], np.int32), 2, 4, 1.0, 1.0, 1, (), 0)
    async for _ in Writer(*parts(), timeout_s=9.0).write([wish], in_pieces=True):
        pass


async def scored() -> None:
    args, engine = TeacherArgs(model="tiny"), Lost()

    async def healthy() -> None: ...

    scorer = Scorer(engine, args, "", Intake("teacher", healthy, "the engine", args))  # type: ignore[arg-type]
    await scorer.score_pairs([TokenPair(np.array([1], np.int32), np.array([2], np.int32))], NO_DETAILS)


@pytest.mark.parametrize("ask", [sampled, sampled_in_parts, written, scored])
def test_it_ends(ask: Callable[[], Coroutine[Any, Any, None]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Ended):
        asyncio.run(asyncio.wait_for(ask(), 30))
    assert "engine_lost" in capsys.readouterr().err
