"""What is said while a step waits for its batch."""

import asyncio
import re
from collections.abc import Callable

import pytest

from rlad_core.timeline import StageSpan
from services.base.span_collector import SpanCollector
from services.base.telemetry import span
from services.experience.patience import Patience, told


def waited(patience: Patience, *seconds: float) -> None:
    """Steps one after another, whose batches take so long."""

    async def steps() -> None:
        for step, each in enumerate(seconds):
            await patience.wait(step, asyncio.create_task(asyncio.sleep(each)))

    asyncio.run(steps())


@pytest.fixture
def open_calls() -> Callable[[], list[StageSpan]]:
    return SpanCollector().open


def test_what_a_step_waits_for_is_told_ever_more_rarely(open_calls: Callable[[], list[StageSpan]]) -> None:
    said: list[str] = []
    with span("verify", items=8), span("rollout"), span("rollout"):
        waited(Patience(said.append, open_calls, first_s=0.2), 1.9)
    assert 2 <= len(said) <= 4  # after 0.2, 0.4, 0.8 and 1.6 s; an idle machine has all
    number = r"\d+ s"
    for each in said:
        assert re.fullmatch(rf"step 1 has waited {number} for its batch\. At work are: .*", each)
        assert re.search(rf"verify 1 \(the oldest for {number}\)", each)
        assert re.search(rf"rollout 2 \(the oldest for {number}\)", each)


def test_a_step_may_take_three_times_as_long_as_the_longest_before(
    open_calls: Callable[[], list[StageSpan]],
) -> None:
    said: list[str] = []
    waited(Patience(said.append, open_calls, first_s=60, least_s=0.01), 0.5, 0.6, 0.1)
    assert not said
    patience = Patience(said.append, open_calls, first_s=60, least_s=0.01)
    waited(patience, 0.1, 1.5)
    assert said
    assert said[0].startswith("step 2 has waited")
    assert "the longest wait before took 0 s" in said[0]


def test_a_batch_that_fails_is_no_longer_waited_for(open_calls: Callable[[], list[StageSpan]]) -> None:
    async def fails() -> None:
        raise ValueError("no batch")

    async def step() -> None:
        batch = asyncio.create_task(fails())
        await Patience(print, open_calls).wait(0, batch)
        with pytest.raises(ValueError, match="no batch"):
            await batch

    asyncio.run(step())


def test_nothing_at_work_is_told_too() -> None:
    assert told([]) == "none"
    assert told([StageSpan("teacher", 10.0, 12.0), StageSpan("teacher", 5.0, 12.0)]) == (
        "teacher 2 (the oldest for 7 s)"
    )
