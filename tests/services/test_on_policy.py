"""With max_staleness 0 a run is what it was, to the bit: the same requests in their order, the same tables.

`on_policy.json` has what each step asked and got in words, and digests of all of it. When it was recorded,
the code before the standing pool (badb658) asked and gave the same.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from on_policy import STEPS, Run, Services, Turns, at_once, behind, drawn, whole

from services.base import tracing
from services.report.traces import read_spans

RECORDED: list[dict[str, Any]] = json.loads(Path(__file__).with_name("on_policy.json").read_text())


def first_is_last(asked: str) -> int:
    """Of each group; teacher and verifier answer at once."""
    return 30 if asked.endswith("/0") and " " not in asked else 0


ORDERS = {"at once": at_once, "first is last": first_is_last, "drawn": drawn(1), "drawn again": drawn(2)}


@pytest.mark.parametrize("turns", ORDERS.values(), ids=ORDERS)
def test_what_was_recorded_in_whatever_order_responses_finish(turns: Turns) -> None:
    services = Services(turns)
    with behind(services) as folder:
        assert asyncio.run(whole(services, folder)) == RECORDED


@pytest.mark.parametrize("share", ["0", "1"])
def test_the_window_has_no_part_in_it(share: str) -> None:
    services = Services(drawn(4))
    with behind(services) as folder:
        assert asyncio.run(whole(services, folder, f"rollout.overtake_window={share}")) == RECORDED


def test_nothing_is_asked_for_a_step_before_the_learner_asks_for_it() -> None:
    """The version that it will be sampled with is out by then, and may be evaluated first."""

    async def run(services: Services, folder: Path) -> None:
        run = Run(services, folder)
        await run.begin()
        for step in range(2):
            await run.step(step)
        for _ in range(20):
            await asyncio.sleep(0)

    services = Services()
    with behind(services) as folder:
        asyncio.run(run(services, folder))
    assert list(services.asked) == [1]


def test_a_step_is_one_trace() -> None:
    services = Services(drawn(5))
    with behind(services) as folder:
        told = asyncio.run(whole(services, folder))
        spans = read_spans(folder)
    positions = [sorted([*step["trained"], *step["dropped"]]) for step in told[1:]]
    traces = [f"{tracing.step_ids('golden', step)[0]:032x}" for step in range(STEPS)]
    of = {each.facts["position"]: each.trace_id for each in spans if each.name == "group"}
    assert of == {each: trace for trace, step in zip(traces[1:], positions, strict=True) for each in step}
    assert {each.trace_id for each in spans if each.name in ("rollout", "teacher", "verify")} == set(
        traces[1:]
    )


def test_a_staleness_above_0_is_another_record() -> None:
    services = Services(drawn(1))
    with behind(services) as folder:
        assert asyncio.run(whole(services, folder, "rollout.max_staleness=1")) != RECORDED


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_run_that_is_resumed_goes_on_as_recorded(done: int) -> None:
    """Killed while the next step's groups are at work, and begun in a new process with its checkpoint."""

    async def killed(services: Services, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        run = Run(services, folder)
        await run.begin()
        told = [await run.step(step) for step in range(done)]
        return told, await run.breaks_off_in(done)

    async def resumed(services: Services, folder: Path, kept: dict[str, Any]) -> list[dict[str, Any]]:
        run = Run(services, folder)
        await run.begin(kept, done)
        return [await run.step(step) for step in range(done, STEPS)]

    first, second = Services(drawn(1)), Services(drawn(2))
    with behind(first) as folder:
        told, kept = asyncio.run(killed(first, folder))
    with behind(second) as folder:
        assert [*told, *asyncio.run(resumed(second, folder, kept))] == RECORDED


def test_a_learner_that_is_lost_within_a_step_gets_it_again() -> None:
    async def run(services: Services, folder: Path) -> list[dict[str, Any]]:
        run = Run(services, folder)
        await run.begin()
        told = [await run.step(step) for step in range(2)]
        await run.collector.begin(await run.breaks_off_in(2), 2)
        return [*told, *[await run.step(step) for step in range(2, STEPS)]]

    services = Services(drawn(3))
    with behind(services) as folder:
        assert asyncio.run(run(services, folder)) == RECORDED
