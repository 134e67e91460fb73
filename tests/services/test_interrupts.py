"""A run that is told to stop waits for its learner, which writes the checkpoint of the last step."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from rich.console import Console

from rlad_core.config import load
from services.base.stopping import sigterm_interrupts
from services.cli import serving
from services.run import fitting
from services.run.learning import Learning
from services.run.watch import Watcher


@pytest.fixture(autouse=True)
def heeds_ctrl_c() -> Iterator[None]:
    """Tests that are started in the background ignore it otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def begun(train: Callable[[], None]) -> Learning:
    learner = Learning(train, lambda text: None)
    learner.begin()
    return learner


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["waiting", "asking"])
def test_the_learner_ends_before_the_run_goes_on(
    number: signal.Signals, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_to_stop, learner_done = threading.Event(), threading.Event()
    asked = 0

    def train() -> None:
        assert asked_to_stop.wait(30)
        time.sleep(1)  # the step that is being finished
        learner_done.set()

    def news(_seen: int) -> str:
        nonlocal asked
        asked += 1
        if asked == 2 and where == "asking":
            os.kill(os.getpid(), number)
        if asked == 1 and where == "waiting":  # a fifth into the half second between two questions
            threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        return "news"

    def call(function: Any) -> Any:
        return SimpleNamespace(remote=function)

    actors: Any = SimpleNamespace(
        collector=SimpleNamespace(stop=call(asked_to_stop.set), __ray_ready__=call(lambda: None)),
        evaluator=SimpleNamespace(__ray_ready__=call(lambda: None)),
        journal=SimpleNamespace(news=call(news), given_up=call(lambda: None)),
    )
    lease: Any = SimpleNamespace(lost=None)
    watcher = Watcher(Console(quiet=True), 1)
    monkeypatch.setattr(watcher, "show", lambda news: None)
    monkeypatch.setattr(fitting, "answer_of", lambda answer, timeout_s, what: answer)
    with sigterm_interrupts():
        assert fitting.fit(begun(train), load("kk-tiny-trrd"), actors, watcher, lease) is None
    assert learner_done.is_set()


@pytest.mark.parametrize("lost", ["collector", "evaluator", "journal"])
def test_who_was_told_to_stop_begins_nothing_anew(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is lost while the learner ends its step; ranks that find it so end as if all were done."""
    asked_to_stop, gone = threading.Event(), set[str]()

    def train() -> None:
        assert asked_to_stop.wait(30)
        gone.add(lost)

    def ask(who: str, answer: Any = None) -> Any:
        def asked(*_: object) -> Any:
            if who in gone:
                raise ActorDiedError
            return answer() if callable(answer) else answer

        return SimpleNamespace(remote=asked)

    actors: Any = SimpleNamespace(
        collector=SimpleNamespace(stop=ask("collector", asked_to_stop.set), __ray_ready__=ask("collector")),
        evaluator=SimpleNamespace(__ray_ready__=ask("evaluator")),
        journal=SimpleNamespace(news=ask("journal", "news"), given_up=ask("journal")),
    )
    watcher, lease = Watcher(Console(quiet=True), 1), SimpleNamespace(lost=None)
    monkeypatch.setattr(watcher, "show", lambda news: None)
    monkeypatch.setattr(fitting, "answer_of", lambda answer, timeout_s, what: answer)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    config: Any = load("kk-tiny-trrd")
    with sigterm_interrupts(), pytest.raises(KeyboardInterrupt) as stopped:
        fitting.fit(begun(train), config, actors, watcher, lease)  # type: ignore[arg-type]
    assert isinstance(stopped.value.__cause__, ActorDiedError)


def test_a_stop_that_is_said_twice_is_one_stop() -> None:
    with sigterm_interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_starts_ends_at_once(number: signal.Signals) -> None:
    with serving._stop(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_a_service_that_serves_finishes_what_runs_until_ctrl_c_comes_again() -> None:
    with serving._stop() as stop:
        stop.up = True
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
            assert stop.wanted.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_sigterm_that_comes_twice_while_a_service_starts_is_one_stop() -> None:
    with serving._stop():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
