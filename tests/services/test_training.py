"""What a run waits for, in which order, and that no learner is left beside the next attempt's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from rlad_core.config import RunConfig, load
from rlad_core.prompt_stream import Selection
from services.learner.trainer import build_trainer
from services.run import training


class Told:
    """In place of services, actors and learner: in which order they are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.actors_gone = threading.Event()
        monkeypatch.setattr(training, "build_trainer", lambda *_: SimpleNamespace(fit=self._learn))
        monkeypatch.setattr(training, "run_services", self._services)
        monkeypatch.setattr(training, "run_actors", self._actors)
        monkeypatch.setattr(training, "ask", lambda _config, what, *_: self.note(what))
        monkeypatch.setattr(training, "ask_and_show", lambda _config, what, *_: self.note(what))
        monkeypatch.setattr(training, "fit", lambda *_: self.note("trained"))

    def note(self, what: str) -> None:
        self.order.append(what)
        if (error := self.fails.pop(what, None)) is not None:
            raise error

    def _learn(self) -> None:
        assert self.actors_gone.wait(30)
        self.order.append("the learner has ended")

    @contextmanager
    def _services(self, *_: Any) -> Iterator[Any]:
        yield SimpleNamespace(
            wait_for_one=lambda: self.note("one is up"), wait=lambda: self.note("all are up")
        )

    @contextmanager
    def _actors(self, *_: Any) -> Iterator[Any]:
        def asked(what: str) -> Any:
            return SimpleNamespace(remote=lambda *_: what)

        collector = {name: asked(name) for name in ("probe_teachers", "end_tokens", "open")}
        try:
            yield SimpleNamespace(
                ready=lambda _: self.note("actors are ready"),
                collector=SimpleNamespace(**collector),
                evaluator=SimpleNamespace(end_with=asked("end_with")),
            )
        finally:
            self.actors_gone.set()

    def carry_out(self, config: RunConfig) -> BaseException | None:
        watcher: Any = SimpleNamespace(say=self.order.append, seen=0)
        lease: Any = None
        return training.carry_out(config, "model", Path(), Selection(), {}, watcher, lease)


UP = "starting Ray, rollout service, teacher service, verifier service"
OPENED = ["actors are ready", "probe_teachers", "end_with", "open", "trained"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def test_a_learner_starts_beside_services_and_trains_once_all_is_there(told: Told) -> None:
    assert told.carry_out(load("kk-tiny-trrd")) is None
    assert told.order[:6] == [UP, "one is up", "starting the learner", "all are up", *OPENED[:2]]
    assert told.order[6:9] == OPENED[2:]


def test_a_learner_on_gpus_starts_when_engines_have_found_out_what_is_free(told: Told) -> None:
    told.carry_out(load("kk-tiny-trrd", ["learner.num_gpus=1"]))
    assert told.order == [UP, "one is up", "all are up", *OPENED[:3], "starting the learner", *OPENED[3:]]


def test_the_next_attempt_begins_when_the_learner_of_the_last_one_has_ended(told: Told) -> None:
    told.fails["actors are ready"] = ActorDiedError()
    config = load("kk-tiny-trrd", ["learner.restart_wait_s=0.001", "learner.max_failures=1"])
    assert told.carry_out(config) is None
    ended = told.order.index("the learner has ended")
    assert told.order.index("actors are ready") < ended
    assert told.order[ended:].count("starting the learner") == 1
    assert told.order.count("starting the learner") == 2


def test_a_learner_that_does_not_end_is_no_reason_to_begin_another(told: Told) -> None:
    told.fails["actors are ready"] = ActorDiedError()
    told.actors_gone = SimpleNamespace(set=lambda: None, wait=lambda _: threading.Event().wait(20))  # type: ignore[assignment]
    with pytest.raises(TimeoutError, match=r"^waited 0\.2 s for the learner to end: "):
        told.carry_out(load("kk-tiny-trrd", ["learner.timeout_s=0.2"]))
    assert told.order.count("starting the learner") == 1


@pytest.mark.parametrize(
    ("address", "cleaners"), [("local", 0), ("10.0.0.1:6379", 1)], ids=["one machine", "joined"]
)
def test_ray_train_starts_no_process_that_has_nothing_to_do(address: str, cleaners: int) -> None:
    trainer = build_trainer(load("kk-tiny-trrd", [f"cluster.address={address}"]), "model")
    names = [type(each).__name__ for each in trainer._create_default_callbacks()]
    assert names.count("PlacementGroupCleanerCallback") == cleaners
    assert "DatasetsCallback" not in names
    assert "BackendSetupCallback" in names
