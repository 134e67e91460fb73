"""The command ``rlad``: what it says, and its exit codes 0, 1 (failed) and 2 (wrong usage or recipe)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from rlad_command import Said

from rlad_core.config import SHIPPED, EvaluationRecipe, load, models, parse
from rlad_core.evaluation import EvaluationRow, Interval
from services.cli import main as cli
from services.cli import runs as runs_commands
from services.report.page import ReportPaths
from services.run import run as runs
from services.run.watch import Watcher

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shipped_models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders in place of the models that ship with the project; recipes stay where they are."""
    shipped = tmp_path_factory.mktemp("shipped")
    for name in ("kk-student", "kk-teacher"):
        folder = shipped / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
        (folder / "model.safetensors").touch()
    monkeypatch.setattr(models, "SHIPPED", shipped)


# --- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ((), "rlad run kk-tiny-trrd"),
        (("run",), "rlad run runs/short/recipe.yaml --resume"),
        (("run",), "Exit codes: 0 finished, 1 failed or stopped before the end, 2 wrong usage or recipe."),
        (("plan",), "rlad plan kk-tiny-trrd --set rollout.group_size=16"),
        (("report",), "rlad report runs/kk-tiny-trrd"),
        (("evaluate",), "rlad evaluate runs/kk-tiny-trrd/export --people 2,3,4 --k 4"),
        (("doctor",), "rlad doctor"),
    ],
)
def test_help_has_examples(rlad: Callable[..., Said], command: tuple[str, ...], example: str) -> None:
    said = rlad(*command, "--help")
    assert said.code == 0
    assert "Example" in said.out
    assert example in " ".join(said.out.split())


def test_help_lists_the_commands(rlad: Callable[..., Said]) -> None:
    said = rlad("--help")
    assert all(f" {name} " in said.out for name in ("run", "plan", "report", "evaluate", "doctor"))


# --- wrong usage: 2 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), ""),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("plan",), "Missing argument"),
        (("plan", "a", "b"), "unexpected extra argument"),
        (("run", "--resum"), "No such option"),
        (("evaluate", "x", "--k", "0"), "--k"),
        (("evaluate", "x", "--people", "two"), "'two' is no list of sizes; write e.g. 2,3"),
    ],
)
def test_wrong_usage(rlad: Callable[..., Said], arguments: tuple[str, ...], says: str) -> None:
    said = rlad(*arguments)
    assert said.code == 2
    assert says in " ".join(said.err.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("teacher",), "model: Field required"),
        (("teacher", "--model", "m", "--set", "engin=vllm"), "engin: Extra inputs are not permitted"),
        (("teacher", "--model", "m", "--set", "limits.timeout_s=-1"), "limits.timeout_s: Input should be"),
        (("all", "--model", "m", "--set", "techer.engine=vllm"), "techer: no such service"),
        (("chess",), "'chess' is unknown; write teacher, rollout, verifier or all"),
        (("verifier", "--host", "0.0.0.0"), "set RLAD_API_TOKENS or RLAD_API_TOKENS_FILE"),
    ],
)
def test_wrong_settings_of_a_service(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    for name in ("RLAD_API_TOKENS", "RLAD_API_TOKENS_FILE"):
        monkeypatch.delenv(name, raising=False)
    said = rlad("serve", *arguments)
    assert said.code == 2
    assert says in " ".join(said.err.replace("│", " ").split())


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_unknown_recipe_lists_those_there_are(rlad: Callable[..., Said], command: str) -> None:
    said = rlad(command, "kk-tiny-trdr")
    assert (said.code, said.out) == (2, "")
    assert "there is no such file" in said.err
    assert "kk-tiny-trrd" in said.err


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("learner.lrr=1", "learner.lrr (1): no such key. Did you mean lr?"),
        ("learner.lr", "--set ('learner.lr'): is no assignment. Write path=value"),
        ("rollout.top_p=0.9", "rollout.top_p (0.9): no such key. There is evaluation.top_p"),
        ("stages.7.steps=1", "stages is a list of 1"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_bad_override(rlad: Callable[..., Said], command: str, override: str, says: str) -> None:
    said = rlad(command, "kk-tiny-teacher-sft", "--set", override)
    assert (said.code, said.out) == (2, "")
    assert says in said.err


def test_a_recipe_that_is_no_yaml(rlad: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: [")
    said = rlad("plan", "mine.yaml")
    assert said.code == 2
    assert "is no YAML" in said.err


def test_the_exit_code_reaches_the_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services", "plan", "nosuch"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no such file" in done.stderr


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("techer.engine=vllm", "techer: no such service"),
        ("engine=vllm", "write teacher.SETTING=VALUE or rollout.SETTING=VALUE or verifier.SETTING=VALUE"),
        ("teacher=3", "teacher: has settings and no value (3). Write teacher.SETTING=VALUE"),
        ("teacher=", "teacher: has settings and no value (None)"),
        ("teacher.engin=vllm", "engin: Extra inputs are not permitted"),
    ],
)
def test_settings_that_no_service_reads_are_refused(
    rlad: Callable[..., Said], override: str, says: str
) -> None:
    said = rlad("serve", "all", "--model", "m", "--set", override)
    assert (said.code, said.out) == (2, "")
    assert says in said.err


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
        ("kk-tiny-sft", 1, "teacher as demonstrator"),
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


# --- run and report: 1 -------------------------------------------------------------------------------------


def test_a_run_folder_in_the_way(rlad: Callable[..., Said], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "kk-tiny-teacher-sft"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    said = rlad("run", "kk-tiny-teacher-sft")
    assert said.code == 1
    assert f"{folder} exists already" in said.err
    assert "--resume" in said.err
    assert "--set name=" in said.err
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_resume_of_nothing(rlad: Callable[..., Said], tmp_path: Path) -> None:
    said = rlad("run", "kk-tiny-teacher-sft", "--resume")
    assert said.code == 1
    assert f"there is no run to resume in {tmp_path / 'runs' / 'kk-tiny-teacher-sft'}" in said.err
    assert not (tmp_path / "runs").exists()


def test_resume_with_another_recipe(rlad: Callable[..., Said], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "kk-tiny-teacher-sft"
    folder.mkdir(parents=True)
    plan = rlad("plan", "kk-tiny-teacher-sft").out
    (folder / "recipe.yaml").write_text(plan.partition("\n\n")[0])
    said = rlad("run", "kk-tiny-teacher-sft", "--resume", "--set", "learner.lr=1e-5")
    assert said.code == 1
    assert "the recipe differs from that of the run" in said.err
    assert "(in learner)" in said.err


@pytest.mark.parametrize("finished", [True, False])
def test_only_a_finished_run_ends_with_0(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: bool
) -> None:
    report = ReportPaths(tmp_path / "report.html", (), ())
    monkeypatch.setattr(runs, "run", lambda *_, **__: runs.RunOutcome(tmp_path, finished, 3, report))
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
    said = rlad("run", "kk-tiny-teacher-sft")
    assert said.code == 1
    assert "recipe.yaml --resume" in said.out


def test_a_token_that_is_not_there_stops_a_run_before_it_begins(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NO_TOKEN", raising=False)
    teacher = "teacher={kind: http, url: 'http://localhost:1', token_env: NO_TOKEN}"
    said = rlad("run", "kk-tiny-trrd", "--set", teacher)
    assert said.code == 1
    assert "teacher: the environment variable NO_TOKEN holds no token" in said.err
    assert not list(tmp_path.iterdir())


def test_report_of_nothing(rlad: Callable[..., Said], tmp_path: Path) -> None:
    assert "there is no folder nowhere" in (said := rlad("report", "nowhere")).err
    assert said.code == 1
    said = rlad("report", str(tmp_path))
    assert said.code == 1
    assert "is not the folder of a run" in said.err


def test_evaluate_refuses_what_cannot_be(rlad: Callable[..., Said]) -> None:
    said = rlad("evaluate", "tiny:student")
    assert said.code == 2
    assert "policy.init" in said.err
    said = rlad("evaluate", "owner/model", "--people", "2, 9", "--split", "train")
    assert said.code == 2
    assert "task.evaluation.people" in said.err
    assert "task.evaluation.split" in said.err
    for wrong, says in (
        (("--task", "sudoku"), "'sudoku' is unknown; write knights_knaves, math"),
        (("--task", "math"), "math needs a data file; write --file PATH"),
        (("--task", "math", "--people", "2"), "people: task math has no use for it"),
        (("--file", "a.jsonl"), "files: task knights_knaves has no use for it"),
        (("--task", "nowhere.py:Riddles"), "nowhere.py cannot be read: No such file or directory"),
    ):
        said = rlad("evaluate", "owner/model", *wrong)
        assert said.code == 2
        assert says in " ".join(said.err.split())


def test_evaluate_takes_the_tasks_of_a_recipe(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, shipped_models: None
) -> None:
    asked: list[EvaluationRecipe] = []
    row = EvaluationRow("2_people", 3, 1, 0.5, Interval(0.4, 0.6), 0.5, 1, 0)
    monkeypatch.setattr("services.evaluate.measure.measure", lambda recipe: asked.append(recipe) or [row])
    recipe = str(SHIPPED / "recipes" / "kk-tiny-trrd.yaml")
    assert rlad("evaluate", "owner/model", "--task", recipe).code == 0
    assert asked[0].task == load(recipe).task
    said = rlad("evaluate", "owner/model", "--task", recipe, "--count", "3")
    assert said.code == 2
    assert "count: task of" in " ".join(said.err.split())
    assert "there is no such file" in rlad("evaluate", "owner/model", "--task", "none.yaml").err


def test_a_place_is_shown_as_it_was_written(rlad: Callable[..., Said]) -> None:
    said = rlad("serve", "verifier", "--task", "nowhere.py:x")
    assert said.code == 2
    assert said.err.startswith("--task nowhere.py:x: ")
    assert "there is no x in json" in rlad("serve", "verifier", "--task", "json:x").err
    assert "teacher judges nothing" in rlad("serve", "teacher", "--task", "json:loads").err


# --- faults ------------------------------------------------------------------------------------------------


def fails_with(error: BaseException) -> Callable[..., Any]:
    def app(**_: Any) -> None:
        raise error

    return app


def test_a_fault_is_told_as_it_is(rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its words look like a console's markup, and longer than a line."""
    monkeypatch.delenv("RLAD_TRACEBACK", raising=False)
    message = f"[/tmp] list[int] [red] {'long ' * 40}end"
    monkeypatch.setattr(cli, "app", fails_with(RuntimeError(message)))
    said = rlad()
    assert said.code == 1
    assert said.err.splitlines()[0] == f"failed: {message}"


def test_a_traceback_where_it_is_asked_for(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAD_TRACEBACK", "1")
    monkeypatch.setattr(cli, "app", fails_with(RuntimeError("why")))
    with pytest.raises(RuntimeError, match="why"):
        rlad()


def test_an_interrupt(rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", fails_with(typer.Abort()))
    assert rlad().code == 1


# --- what is shown meanwhile -------------------------------------------------------------------------------


def test_without_a_terminal_a_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    step = {
        "step": 4,
        "version": 5,
        "stage": "trrd",
        "reward_mean": 1.234,
        "accuracy": 0.5,
        "kl_to_teacher": float("nan"),
        "entropy": 0.25,
        "seconds": {"step": 3.21},
    }
    evaluation = {"when": "before", "subset": "2_people", "accuracy": 0.5, "low": 0.4, "high": 0.6}
    note = f"[/x] {'word ' * 30}end"
    with Watcher(Console(highlight=False, width=80), total=10) as watcher:
        watcher.show([("begun", 4)])
        assert watcher.steps_done == 4
        after = {**evaluation, "when": "after"}
        watcher.show([("note", note), ("evaluation", evaluation), ("step", step), ("evaluation", after)])
    assert watcher.steps_done == 5
    assert watcher.seen == 5
    assert capsys.readouterr().out.splitlines() == [
        note,
        "before  2_people   accuracy  50.0%  [40.0%, 60.0%]",
        "step    5  trrd  reward 1.23  right 50%  KL to teacher nan  entropy 0.250  3.2 s",
        " after  2_people   accuracy  50.0%  [40.0%, 60.0%]",
    ]
