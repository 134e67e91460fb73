"""An actor's answer to who waits for it: in time, or not, or what it raised instead."""

import asyncio
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.actor import ActorHandle

from rlad_core.config import load
from services.base.asking import answer_of
from services.report.journal import Journal
from services.run.actors import ask_and_show


class Asked:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self._told = asyncio.Event()

    async def answer(self) -> int:
        await self._told.wait()
        return 7

    async def tell(self) -> None:
        self._told.set()

    async def fail(self) -> None:
        raise LookupError("there is no such prompt")


@pytest.fixture
def asked(ray_cluster: None) -> Iterator[ActorHandle]:
    actor = ray.remote(num_cpus=0)(Asked).remote()
    yield actor
    ray.kill(actor)


@pytest.mark.slow
def test_the_limit_names_what_was_waited_for(asked: ActorHandle) -> None:
    with pytest.raises(TimeoutError, match=r"^waited 0\.2 s for the rewards$"):
        answer_of(asked.answer.remote(), timeout_s=0.2, what="the rewards")


@pytest.mark.slow
def test_what_the_actor_raised_comes_as_it_is_and_keeps_the_stack_of_its_process(asked: ActorHandle) -> None:
    with pytest.raises(LookupError) as raised:
        answer_of(asked.fail.remote(), timeout_s=60, what="the prompts")
    assert (type(raised.value), str(raised.value)) == (LookupError, "there is no such prompt")
    assert "in fail" in "".join(traceback.format_exception(raised.value))


@pytest.mark.slow
def test_meanwhile_something_else_is_done(asked: ActorHandle) -> None:
    calls = 0

    def meanwhile() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            asked.tell.remote()

    references = [asked.answer.remote(), asked.__ray_ready__.remote()]
    assert answer_of(references, timeout_s=60, what="both", meanwhile=meanwhile, every_s=0.1)[0] == 7
    assert calls >= 3


@pytest.mark.slow
def test_what_is_done_meanwhile_does_not_move_the_limit(asked: ActorHandle) -> None:
    calls: list[None] = []
    with pytest.raises(TimeoutError, match=r"^waited 0\.5 s for what never comes$"):
        answer_of(
            asked.answer.remote(),
            timeout_s=0.5,
            what="what never comes",
            meanwhile=lambda: calls.append(None),
            every_s=0.1,
        )
    assert calls


@pytest.mark.slow
def test_what_the_journal_was_told_before_a_failure_is_shown(asked: ActorHandle, tmp_path: Path) -> None:
    journal: Any = ray.remote(num_cpus=0)(Journal).remote(str(tmp_path))
    ray.get(journal.note.remote("the teacher: it is another model"), timeout=60)
    shown: list[Any] = []
    watcher: Any = SimpleNamespace(seen=0, show=shown.extend, say=print)
    actors: Any = SimpleNamespace(journal=journal)
    with pytest.raises(LookupError, match="no such prompt"):
        ask_and_show(load("kk-tiny-trrd"), asked.fail.remote(), "an answer of the teacher", actors, watcher)
    assert ("note", "the teacher: it is another model") in shown
    ray.kill(journal)
