"""A replica ends with its engine, whichever way it was asked."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn

import numpy as np
import pytest
from small_tokenizer import TOKENIZER, WORDS
from test_held_policy import NotingEngine, Store
from test_rollout_phases import MINE, PROMPT, SETTINGS
from vllm.v1.engine.exceptions import EngineDeadError

from rlad_core.client.details import NO_DETAILS
from services.rollout.engine import PolicyEngine
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
from services.vllm.sleeping import Sleeper
from services.weights.held_policy import HeldPolicy


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


class Dead(NotingEngine):
    """An engine of the policy that was lost while nobody sampled."""

    async def _say(self, *_: Any) -> NoReturn:
        raise EngineLostError("it has ended")

    init_transfer = begin_update = receive = end_update = sleep = _say


def _held(store: Store | None = None) -> HeldPolicy:
    return HeldPolicy(Dead(), "a", store, 5)


MOVES: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "load": lambda: _held(Store(1)).load(1),
    "reach": lambda: _held(Store(1)).reach(1),
    "connect": lambda: _held().connect({}),
    "begin": lambda: _held().begin(),
    "receive": lambda: _held().receive({}),
    "end": lambda: _held().end(1),
    "sleep": lambda: _held().sleep(),
}


class _DeadVllm:
    """What is used of vLLM's engine to move its weights, whose process has ended."""

    async def _say(self, *_: Any, **__: Any) -> NoReturn:
        raise EngineDeadError

    collective_rpc = sleep = wake_up = _say
    init_weight_transfer_engine = pause_generation = update_weights = finish_weight_update = _say


def test_what_vllm_says_of_its_end_is_a_lost_engine_however_its_weights_are_moved() -> None:
    dead: Any = _DeadVllm()
    policy = PolicyEngine.__new__(PolicyEngine)  # its constructor starts vLLM
    policy._engine, policy._sleeper = dead, Sleeper(dead)

    async def scenario() -> None:
        for moved in (
            policy.init_transfer({}),
            policy.begin_update(),
            policy.receive({}),
            policy.end_update(1),
            policy.sleep(),
        ):
            with pytest.raises(EngineLostError, match="the vLLM engine has ended while it"):
                await moved
        policy._sleeper.asleep = True
        with pytest.raises(EngineLostError, match="while it woke up"):
            await policy.wake()

    asyncio.run(scenario())


@pytest.mark.parametrize("ask", [sampled, sampled_in_parts, written, scored, *MOVES.values()])
def test_it_ends(ask: Callable[[], Coroutine[Any, Any, None]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Ended):
        asyncio.run(asyncio.wait_for(ask(), 30))
    assert "engine_lost" in capsys.readouterr().err
