"""The commands about runs: `plan`, `run`, `report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rlad_command import Said

from rlad_core.config import load, parse
from services.cli import runs as runs_commands
from services.report.page import ReportPaths
from services.run import run as runs
from services.run.preparing import RunOutcome

# --- plan --------------------------------------------------------------------------------------------------


def test_plan_prints_a_recipe_that_reads_back(
    rlad: Callable[..., Said], shipped_models: None, tmp_path: Path
) -> None:
    long = "a-name-" * 20
    said = rlad("plan", "kk-tiny-trrd", "--set", f"name={long}", "--set", "stages.0.steps=7")
    assert said.code == 0
    recipe, _, tables = said.out.partition("\n\n")
    (tmp_path / "printed.yaml").write_text(recipe)
    assert load(tmp_path / "printed.yaml") == load("kk-tiny-trrd", [f"name={long}", "stages.0.steps=7"])
    assert parse(recipe)["stages"][0]["objective"]["alpha"] == 0.5
    words = " ".join(tables.split())
    assert "trrd │ 7" in words
    assert "32 x 8" in words
    for process in ("rollout service", "teacher service", "verifier service", "learner (FSDP2)"):
        assert process.split()[0] in words
    assert "embedded Ray on this machine" in words
    assert list(tmp_path.iterdir()) == [tmp_path / "printed.yaml"], "nothing was started or written"


@pytest.mark.parametrize(
    ("recipe", "group_size", "teacher"),
    [
        ("kk-tiny-teacher-sft", 1, None),
        ("kk-tiny-sft", 8, "teacher as demonstrator"),
        ("kk-tiny-grpo", 8, None),
        ("kk-tiny-kdrl", 8, "teacher service"),
    ],
)
def test_plan_of_each_method(
    rlad: Callable[..., Said],
    shipped_models: None,
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
    group_size: int,
    teacher: str | None,
) -> None:
    monkeypatch.setattr(runs_commands, "out", Console(width=200))
    said = rlad("plan", recipe, "--set", "rollout.prompts_per_step=32", "--set", "rollout.group_size=8")
    assert said.code == 0
    assert f"32 x {group_size} " in said.out
    for what in ("teacher as demonstrator", "teacher service"):
        assert (what in said.out) == (what == teacher)


def test_names_in_a_table_keep_their_brackets(rlad: Callable[..., Said], shipped_models: None) -> None:
    said = rlad("plan", "kk-tiny-trrd", "--set", "stages.0.name='my [red] stage'")
    assert said.code == 0
    assert "│ my" in said.out
    assert "[red]" in said.out.partition("Stages")[2]


def test_plan_has_the_reference_among_what_starts(
    rlad: Callable[..., Said], shipped_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_commands, "out", Console(width=200))
    held = ("--set", "stages.0.objective.reference_kl=0.1")
    served = rlad(
        "plan", "kk-tiny-grpo", *held, "--set", "reference={model: 'rlad:kk-student', num_replicas: 2}"
    )
    assert served.code == 0, served.err
    [line] = [line for line in served.out.splitlines() if "reference service" in line]
    assert [cell.strip() for cell in line.split("│")[2:4]] == ["2", "torch, rlad:kk-student, float32"]
    elsewhere = rlad("plan", "kk-tiny-grpo", *held, "--set", "reference={kind: http, url: 'http://a:1'}")
    assert "reference elsewhere" in elsewhere.out


# --- run and report: refused (2), failed (1) ---------------------------------------------------------------


def test_a_run_folder_in_the_way(rlad: Callable[..., Said], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "kk-tiny-teacher-sft"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    said = rlad("run", "kk-tiny-teacher-sft")
    assert said.code == 2
    assert f"{folder} exists already" in said.err
    assert "--resume" in said.err
    assert "--set name=" in said.err
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_resume_of_nothing(rlad: Callable[..., Said], tmp_path: Path) -> None:
    said = rlad("run", "kk-tiny-teacher-sft", "--resume")
    assert said.code == 2
    assert f"there is no run to resume in {tmp_path / 'runs' / 'kk-tiny-teacher-sft'}" in said.err
    assert not (tmp_path / "runs").exists()


def test_resume_with_another_recipe(rlad: Callable[..., Said], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "kk-tiny-teacher-sft"
    folder.mkdir(parents=True)
    plan = rlad("plan", "kk-tiny-teacher-sft").out
    (folder / "recipe.yaml").write_text(plan.partition("\n\n")[0])
    said = rlad("run", "kk-tiny-teacher-sft", "--resume", "--set", "learner.lr=1e-5")
    assert said.code == 2
    assert "the recipe differs from that of the run" in said.err
    assert "learner.lr: " in said.err
    assert " -> 1e-05" in said.err
    assert "--fork NAME" in said.err


@pytest.mark.parametrize("finished", [True, False])
def test_only_a_finished_run_ends_with_0(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: bool
) -> None:
    report = ReportPaths(tmp_path / "report.html", (), ())
    monkeypatch.setattr(runs, "run", lambda *_, **__: RunOutcome(tmp_path, finished, 3, report))
    monkeypatch.setattr("services.report.records.read_run", lambda _: None)
    for table in ("evaluation_table", "stage_time_table"):
        monkeypatch.setattr(f"services.report.tables.{table}", lambda _: "a table")
    said = rlad("run", "kk-tiny-teacher-sft")
    assert said.code == (0 if finished else 1)
    assert ("--resume" in said.out) == (not finished)
    assert ("model " in said.out) == finished
    assert "report.html" in said.out


def test_a_run_that_is_stopped_at_once(rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run", interrupted)
    said = rlad("run", "kk-tiny-teacher-sft", "--set", "output.dir=my runs")
    assert said.code == 1
    assert "rlad run 'my runs/kk-tiny-teacher-sft/recipe.yaml' --resume" in said.out


def test_a_token_that_is_not_there_stops_a_run_before_it_begins(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NO_TOKEN", raising=False)
    teacher = "teacher={kind: http, url: 'http://localhost:1', token_env: NO_TOKEN}"
    said = rlad("run", "kk-tiny-trrd", "--set", teacher)
    assert said.code == 2
    assert "teacher: the environment variable NO_TOKEN holds no token" in said.err
    assert not list(tmp_path.iterdir())


def test_report_of_nothing(rlad: Callable[..., Said], tmp_path: Path) -> None:
    assert "there is no folder nowhere" in (said := rlad("report", "nowhere")).err
    assert said.code == 2
    said = rlad("report", str(tmp_path))
    assert said.code == 2
    assert "is not the folder of a run" in said.err
