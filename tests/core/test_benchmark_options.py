"""Measurements refuse what they cannot measure, with a sentence and before anything starts."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import error_rates, pipeline, publishing, scoring, scoring_latency, scoring_shapes, step


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        (publishing, ["--gib", "0"], "'--gib'"),
        (publishing, ["--gib", "nan"], "'--gib'"),
        (publishing, ["--gib", "inf"], "'--gib'"),
        (publishing, ["--versions", "0"], "'--versions'"),
        (pipeline, ["--scale", "inf"], "'--scale'"),
        (scoring, ["--model", "nowhere"], "there is no such folder"),
        (scoring_latency, ["--model", "rlad:nobody"], "no such model ships with the project"),
        (scoring_latency, ["--tokens-per-batch", "255"], "'--tokens-per-batch'"),
        (scoring_shapes, ["--model", "nowhere"], "there is no such folder"),
    ],
)
def test_what_cannot_be_measured_is_refused(module: ModuleType, arguments: list[str], says: str) -> None:
    command = typer.Typer()
    command.command()(module.main)
    refused = CliRunner().invoke(command, arguments, env={"COLUMNS": "300"})
    assert refused.exit_code == 2
    assert says in refused.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--answers", "0"], "--answers is 0, wanted at least 1"),
        (["--answers", "1", "--seeds", "1"], "--seeds is 1, wanted at least 2"),
        (["--answers", "1", "--spread", "nan"], "--spread is nan"),
        (["--spread", "0.1"], "Write --answers too"),
    ],
)
def test_rates_of_nothing_are_refused(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["error_rates", *arguments])
    with pytest.raises(SystemExit):
        error_rates.main()
    assert says in capsys.readouterr().err


@pytest.fixture
def makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object, **__: object) -> None:
        raise AssertionError("an environment was made")

    monkeypatch.setattr(step.venv, "create", made)


@pytest.mark.usefixtures("makes_nothing")
def test_a_folder_with_something_else_becomes_no_environment(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(typer.BadParameter, match="is there and no virtual environment"):
        step.environment(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.usefixtures("makes_nothing")
def test_an_environment_without_trl_is_refused_before_a_side_runs(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(typer.BadParameter, match="has no TRL"):
        step.environment(tmp_path)
    python.write_text("#!/bin/sh\nexit 0\n")
    assert step.environment(tmp_path) == python


def test_half_of_an_environment_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_: object) -> str:
        raise typer.Exit(1)

    monkeypatch.setattr(step.venv, "create", lambda folder, **_: (folder / "bin").mkdir(parents=True))
    monkeypatch.setattr(step, "_run", failed)
    with pytest.raises(typer.Exit):
        step.environment(tmp_path / "trl")
    assert not (tmp_path / "trl").exists()
