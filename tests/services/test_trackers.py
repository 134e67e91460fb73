"""Trackers are told what TensorBoard is; whatever becomes of them, the run goes on.

That the three real ones take it was tried with wandb 0.31 (offline), mlflow 3.17 and trackio 0.43.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from services.report import trackers
from services.report.journal import Journal
from services.report.trackers import Aside, MlflowTracker, finish
from services.run import actors


class Told:
    """Takes what it is told, after `wait_s` each."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.rows: list[tuple[Mapping[str, float], int]] = []
        self.finished = False
        self._wait_s = wait_s

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        time.sleep(self._wait_s)
        self.rows.append((numbers, step))

    def finish(self) -> None:
        self.finished = True


class Broken(Told):
    def log(self, numbers: Mapping[str, float], step: int) -> None:
        raise ConnectionError("no route\nto the server")


def test_the_journal_tells_steps_and_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    made: list[tuple[str, str]] = []
    monkeypatch.setitem(
        trackers.MAKERS, "wandb", lambda project, run, folder: made.append((project, run)) or told
    )
    journal = Journal(str(tmp_path / "mine"), ("wandb",), "puzzles")
    journal.begin(0)
    row = {"step": 0, "version": 1, "reward_mean": 0.5, "nll": float("nan"), "seconds": {"step": 2.0}}
    journal.step(row, [], [])
    journal.close()
    [(project, run)] = made
    assert project == "puzzles"
    assert re.fullmatch("mine-[0-9a-f]{6}", run)
    assert told.rows == [({"version": 1.0, "reward_mean": 0.5, "seconds/step": 2.0}, 0)]
    assert told.finished


def test_a_run_goes_on_as_itself_and_never_as_another_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setitem(trackers.MAKERS, "mlflow", lambda project, run, folder: made.append(run) or Told())
    for folder in (tmp_path / "a" / "mine", tmp_path / "b" / "mine", tmp_path / "a" / "mine"):
        [aside] = trackers.trackers(("mlflow",), "rlad", "mine", folder, print)
        finish([aside], 10)
    first, elsewhere, resumed = made
    assert first == resumed != elsewhere
    assert trackers.trackers((), "rlad", "mine", tmp_path / "none", print) == []
    assert not (tmp_path / "none").exists()


class MlflowServer:
    """What of a server `MlflowTracker` asks; another run makes the same experiment at the same moment."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, str] = {}
        """Name of a run, which is its id too -> its state."""

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        self.experiments[name] = "7"
        raise RuntimeError("RESOURCE_ALREADY_EXISTS")

    def search_runs(self, experiments: list[str], wanted: str, max_results: int) -> list[SimpleNamespace]:
        assert experiments == ["7"]
        return [self._run(name) for name in self.runs if f"'{name}'" in wanted]

    def create_run(self, experiment: str, run_name: str) -> SimpleNamespace:
        self.runs[run_name] = "RUNNING"
        return self._run(run_name)

    def update_run(self, run: str, status: str) -> None:
        self.runs[run] = status

    def set_terminated(self, run: str) -> None:
        self.runs[run] = "FINISHED"

    def _run(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(info=SimpleNamespace(run_id=name))


def test_mlflow_shares_a_project_that_another_run_makes_and_says_that_a_resumed_run_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, module = MlflowServer(), ModuleType("mlflow")
    vars(module).update(MlflowClient=lambda: server, set_tracking_uri=lambda address: None)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for _ in ("begun", "resumed"):
        tracker = MlflowTracker("puzzles", "mine-1a2b3c", tmp_path)
        assert server.runs == {"mine-1a2b3c": "RUNNING"}
        tracker.finish()
        assert server.runs == {"mine-1a2b3c": "FINISHED"}
    refused = MlflowServer()
    monkeypatch.setattr(refused, "create_experiment", MlflowServer().create_experiment)
    vars(module)["MlflowClient"] = lambda: refused
    with pytest.raises(RuntimeError, match="RESOURCE_ALREADY_EXISTS"):
        MlflowTracker("puzzles", "mine-1a2b3c", tmp_path)


def test_one_that_takes_nothing_any_more_is_left_alone_with_a_word() -> None:
    said: list[str] = []
    aside = Aside("wandb", Broken, said.append)
    for step in range(trackers._MOST_FAILED):
        aside.log({"a": 1.0}, step)
    finish([aside], 10)
    aside.log({"a": 2.0}, 100)
    assert said == [
        "wandb failed (ConnectionError: no route): what it was not told is missing there",
        "the run is not told to wandb, which failed (ConnectionError: no route)",
    ]


def test_a_server_that_was_away_is_told_of_what_comes_later() -> None:
    said: list[str] = []

    class Away(Told):
        def log(self, numbers: Mapping[str, float], step: int) -> None:
            if 1 <= step < trackers._MOST_FAILED:
                raise ConnectionError("no route")
            super().log(numbers, step)

    told = Away()
    aside = Aside("mlflow", lambda: told, said.append)
    steps = range(trackers._MOST_FAILED + 2)
    for step in steps:
        aside.log({"a": 1.0}, step)
    finish([aside], 10)
    assert [step for _, step in told.rows] == [0, *steps[-2:]]
    assert told.finished
    assert said == ["mlflow failed (ConnectionError: no route): what it was not told is missing there"]


def test_one_that_cannot_be_made_is_left_alone_with_a_word() -> None:
    said: list[str] = []

    def make() -> Told:
        raise PermissionError("no key")

    assert finish([Aside("wandb", make, said.append)], 10) == []
    assert said == ["the run is not told to wandb, which failed (PermissionError: no key)"]


def test_one_that_is_not_installed_is_said(tmp_path: Path) -> None:
    if find_spec("trackio"):
        pytest.skip("trackio is installed")
    said: list[str] = []
    finish(trackers.trackers(("trackio",), "rlad", "mine", tmp_path, said.append), 10)
    assert said[0].startswith("the run is not told to trackio, which is not installed")
    assert said[0].endswith("pip install trackio")


def test_a_slow_one_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_MOST_WAITING", 2)
    held, said = threading.Event(), list[str]()

    class Slow(Told):
        def log(self, numbers: Mapping[str, float], step: int) -> None:
            held.wait(30)

    aside = Aside("mlflow", Slow, said.append)
    for step in range(10):
        aside.log({}, step)
    assert said == ["mlflow is slower than the run: what it has no time for is left out there"]
    assert finish([aside], 0.05) == ["mlflow"]  # and so does the end of the run not wait for it for long
    held.set()


def test_those_that_hang_at_the_end_share_one_limit_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, prompt = threading.Event(), Told()

    class Hanging(Told):
        def finish(self) -> None:
            held.wait(30)

    begun = time.monotonic()
    many = [Aside(f"number {place}", Hanging, print) for place in range(10)]
    assert len(finish(many, 0.5)) == 10
    assert time.monotonic() - begun < 4, "one limit, and not one of each"
    monkeypatch.setitem(trackers.MAKERS, "wandb", lambda *_: Hanging())
    monkeypatch.setitem(trackers.MAKERS, "mlflow", lambda *_: prompt)
    monkeypatch.setitem(trackers.MAKERS, "trackio", lambda *_: Hanging())
    journal = Journal(str(tmp_path / "mine"), ("wandb", "mlflow", "trackio"))
    notes = journal.close(limit_s=0.5)
    assert notes == [
        "wandb, trackio did not finish within 0.5 s: what was not written by then may be missing there"
    ]
    assert journal.news(0) == [("note", notes[0])]
    assert prompt.finished
    held.set()
    assert trackers.CLOSE_S < actors._ANSWER_S


@pytest.mark.parametrize("where", ["make", "log", "finish"])
def test_one_that_wants_to_end_the_process_is_left_alone_with_a_word(where: str) -> None:
    said: list[str] = []

    class Leaving(Told):
        def log(self, numbers: Mapping[str, float], step: int) -> None:
            if where == "log":
                raise SystemExit(3)

        def finish(self) -> None:
            raise SystemExit(3)

    def make() -> Told:
        if where == "make":
            raise SystemExit(3)
        return Leaving()

    aside = Aside("wandb", make, said.append)
    aside.log({"a": 1.0}, 0)
    if where != "finish":
        assert aside.has_ended(10)
        for step in range(trackers._MOST_WAITING + 2):
            aside.log({}, step)
    begun = time.monotonic()
    assert finish([aside], 10) == []
    assert time.monotonic() - begun < 5, "a thread that is over is not waited for"
    assert said == ["the run is not told to wandb, which failed (SystemExit: 3)"]


def test_a_journal_that_closes_late_fails_no_run_that_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def late(reference: object, *, timeout_s: float, what: str) -> list[str]:
        raise TimeoutError(f"waited {timeout_s:g} s for {what}")

    journal = SimpleNamespace(close=SimpleNamespace(remote=lambda: None))
    monkeypatch.setattr(actors, "answer_of", late)
    actors.close_journal(journal, limit_s=0.5)
    assert capsys.readouterr().err.startswith("waited 0.5 s for the journal to close its files; every line ")
    monkeypatch.setattr(actors, "answer_of", lambda *_, **__: ["wandb did not finish"])
    actors.close_journal(journal)
    assert capsys.readouterr().err == "wandb did not finish\n"
