"""Calls to a deployment: retried where its replica is gone, limited in time, no limit blamed on another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from services.clients.calls import call


class Method:
    """Stands in for a deployment's method: answers with what each attempt is to do."""

    def __init__(self, *attempts: Callable[[], Awaitable[Any]]) -> None:
        self._attempts = list(attempts)
        self.calls = 0

    async def remote(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        attempt = self._attempts[min(self.calls, len(self._attempts)) - 1]
        return await attempt()


async def answer() -> str:
    return "answer"


async def hang() -> None:
    await asyncio.Event().wait()


async def gone() -> None:
    raise ActorUnavailableError("the replica is restarting", None)


async def gives_up() -> None:
    raise TimeoutError("waited 5 s for policy version 3")


async def refuses() -> None:
    raise ValueError("no such column")


def ask(method: Method, timeout_s: float = 20.0) -> Any:
    return asyncio.run(call(method, timeout_s=timeout_s, what="rewards"))


def test_a_replica_that_went_away_is_asked_again() -> None:
    method = Method(gone, gone, answer)
    assert ask(method) == "answer"
    assert method.calls == 3


def test_the_limit_names_what_was_waited_for() -> None:
    with pytest.raises(TimeoutError, match=r"^waited 0\.05 s for rewards$"):
        ask(Method(hang), timeout_s=0.05)


def test_the_limit_covers_all_attempts_and_tells_the_last_fault() -> None:
    wanted = r"waited 0\.05 s for rewards; the last attempt ended with ActorUnavailableError.*restarting"
    with pytest.raises(TimeoutError, match=f"(?s){wanted}"):
        ask(Method(gone, hang), timeout_s=0.05)


def test_a_time_limit_of_the_deployments_own_arrives_as_it_is() -> None:
    method = Method(gives_up)
    with pytest.raises(TimeoutError, match=r"^waited 5 s for policy version 3$"):
        ask(method)
    assert method.calls == 1


def test_other_faults_are_not_retried() -> None:
    method = Method(refuses)
    with pytest.raises(ValueError, match="no such column"):
        ask(method)
    assert method.calls == 1
