"""How callers and requests of one engine take turns, above all where many responses have one prompt."""

import asyncio
from collections import Counter

import pytest
from scripted_scoring import ScriptedEngine, SteadyEngine, asked, group, pair, run

from services.teacher.scoring.batcher import Batcher
from services.teacher.scoring.interface import TokenPair


@pytest.mark.parametrize(
    "much",
    [
        pytest.param([pair(9) for _ in range(60)], id="a prompt each"),
        pytest.param(group(60, 9, prompt=1), id="one prompt"),
        pytest.param([each for _ in range(6) for each in group(5, 15, prompt=20)], id="a prompt for a batch"),
    ],
)
def test_a_small_request_waits_for_what_is_in_flight_and_for_no_more(much: list[TokenPair]) -> None:
    async def stream(batcher: Batcher) -> None:
        while True:
            await asyncio.create_task(asked(batcher, "much", much))

    async def body() -> None:
        engine = SteadyEngine()
        batcher = Batcher(engine, 100)
        streams = [asyncio.create_task(stream(batcher)) for _ in range(2)]
        for _ in range(30):
            await asyncio.sleep(0.002)
            before = engine.done
            await asyncio.create_task(asked(batcher, "little", [pair(9)]))
            assert engine.done - before <= 3, "the one in the pass, the one at hand, its own"
        for each in streams:
            each.cancel()
        await batcher.close()

    asyncio.run(body())


def beside_each_other(*requests: list[TokenPair], budget: int = 100) -> list[list[int]]:
    """Which request each pair of each batch belongs to; they come in this order, each of a caller of its own,
    while the engine is at work on something else.
    """

    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        engine.gate.clear()
        calls = [asyncio.create_task(asked(batcher, "first", [pair(1)]))]
        await asyncio.sleep(0.01)
        for number, pairs in enumerate(requests):
            calls.append(asyncio.create_task(asked(batcher, str(number), pairs)))
        await asyncio.sleep(0.01)
        engine.gate.set()
        await asyncio.gather(*calls)

    of = {id(each): number for number, pairs in enumerate(requests) for each in pairs}
    return [[of[id(each)] for each in batch] for batch in run(scenario, budget).batches[1:]]


def test_a_turn_is_at_most_a_batch_and_those_of_one_prompt_stay_together_in_it() -> None:
    # 10 + 9 * 10 tokens fill a batch: the first has three, the second one, the third a few more than one.
    large, fits, larger = (group(responses, 10, prompt=10) for responses in (27, 9, 11))
    assert beside_each_other(large, fits, larger) == [
        [0] * 9, [1] * 9, [2] * 9, [0] * 9, [2] * 2 + [0] * 6, [0] * 3
    ]  # fmt: skip


def test_requests_of_one_caller_take_turns_of_a_batch_too() -> None:
    async def scenario(engine: ScriptedEngine, batcher: Batcher) -> None:
        engine.gate.clear()
        large = asyncio.create_task(asked(batcher, "one", group(60, 9, prompt=1)))
        await asyncio.sleep(0.01)
        small = asyncio.create_task(asked(batcher, "one", [pair(1)]))
        await asyncio.sleep(0.01)
        engine.gate.set()
        await asyncio.gather(large, small)

    [small] = [
        number for number, batch in enumerate(run(scenario).batches) for each in batch if each.length == 2
    ]
    assert small == 1, "the one after that in flight"


def test_turns_count_a_shared_prompt_once() -> None:
    # Both fill a batch with what the engine computes: 50 + 5 * 10 tokens, and 10 * (1 + 9).
    shared = [each for _ in range(10) for each in group(5, 10, prompt=50)]
    batches = beside_each_other(shared, [pair(9) for _ in range(100)])
    tokens = Counter[int]()
    for batch in batches[:10]:
        tokens[0] += 50 * (0 in batch) + 10 * batch.count(0)
        tokens[1] += 10 * batch.count(1)
    assert tokens[0] / tokens[1] == pytest.approx(1, rel=0.3)
