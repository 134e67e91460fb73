"""A run is watched from another process: what its record gains, and when nothing more is to be awaited."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlad_command import Said

from rlad_core.config import dump, load
from services.run.following import Following
from services.run.lease import at_work, leased


def a_run(folder: Path) -> Path:
    """A run of two steps that has been begun."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(
        dump(load("kk-tiny-trrd", ["stages.0.steps=2", "learner.warmup_steps=0"]))
    )
    evaluate(folder, "before", 0)
    return folder


def evaluate(folder: Path, when: str, step: int) -> None:
    row = {
        "step": step, "when": when, "subset": "2_people",
        "total": 4, "accuracy": 0.5, "low": 0.1, "high": 0.9,
    }  # fmt: skip
    with (folder / "evaluation.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def train(folder: Path, step: int, **more: Any) -> None:
    row = {"step": step, "version": step + 1, "stage": "trrd", "seconds": {"step": 3.0}, **more}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def told(news: list[Any]) -> list[tuple[str, int]]:
    return [(kind, row["step"]) for kind, row in news]


def test_each_step_comes_once_and_a_repeated_one_again(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    waits: list[float] = []
    with leased(folder):
        looks = Following(folder, waits.append).news()
        assert told(next(looks)) == [("evaluation", 0)]
        train(folder, 0)
        train(folder, 1)
        assert told(next(looks)) == [("step", 0), ("step", 1)]
        assert told(next(looks)) == []
        train(folder, 1, resumed=True)
        evaluate(folder, "step", 2)
        assert told(next(looks)) == [("step", 1), ("evaluation", 2)]
        evaluate(folder, "after", 2)
        assert told(next(looks)) == [("evaluation", 2)]
        assert next(looks, None) is None  # the run is over, whoever holds the folder
    assert len(waits) == 4


def test_why_a_stage_ended_is_told_once_after_its_step(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    with leased(folder):
        looks = Following(folder, lambda _: None).news()
        next(looks)
        train(folder, 0)
        evaluate(folder, "step", 1)
        row = {"step": 0, "stage": "trrd", "why": "1,313 tokens were trained on"}
        (folder / "stage_ends.jsonl").write_text(json.dumps(row) + "\n")
        *before, last = next(looks)
        assert told(before) == [("step", 0), ("evaluation", 1)]
        assert last == ("note", "the stage ends after step 1: 1,313 tokens were trained on")
        assert next(looks) == []


def test_it_ends_when_nobody_works_on_the_run(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    assert at_work(folder) is None
    assert [told(news) for news in Following(folder).news()] == [[("evaluation", 0)]]
    with leased(folder):
        found = at_work(folder)
        assert found is not None
        assert "process" in found[0]
    assert at_work(folder) is None


def test_a_killed_owner_is_nobody(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from services.run.lease import leased\n"
    code += "with leased(Path(sys.argv[1])): print('mine', flush=True); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert killed.stdout == "mine\n"
    assert at_work(tmp_path) is None


def test_the_command_shows_it_and_says_how_to_go_on(rlad: Callable[..., Said], tmp_path: Path) -> None:
    folder = a_run(tmp_path / "mine")
    train(folder, 0, reward_mean=1.5)
    said = rlad("watch", str(folder))
    assert said.code == 0
    assert "before  2_people" in said.out
    assert "reward 1.50" in said.out
    assert "nobody works on it: 1 of 2 steps. Continue with\n  rlad run" in said.out
    train(folder, 1)
    evaluate(folder, "after", 2)
    assert "nobody" not in rlad("watch", str(folder)).out
    missing = rlad("watch", str(tmp_path / "yours"))
    assert (missing.code, "there is no folder" in missing.err) == (2, True)


def test_recorded_steps_are_over_without_an_evaluation_and_gone_on_with_by_learn(
    rlad: Callable[..., Said], tmp_path: Path
) -> None:
    folder = a_run(tmp_path / "my run")
    (folder / "evaluation.jsonl").unlink()
    (folder / "replayed.json").write_text("[]")
    train(folder, 0)
    said = rlad("watch", str(folder))
    assert f"Continue with\n  rlad learn '{folder}/recipe.yaml' --experience ... --resume" in said.out
    train(folder, 1)
    assert "nobody" not in rlad("watch", str(folder)).out


def test_a_run_that_diverged_is_not_to_be_gone_on_with_as_it_was(
    rlad: Callable[..., Said], tmp_path: Path
) -> None:
    folder = a_run(tmp_path / "mine")
    train(folder, 0, entropy=None)
    (folder / "diverged.json").write_text("{}")
    said = rlad("watch", str(folder))
    assert said.code == 0, said.err
    assert "it diverged after 1 of 2 steps" in said.out
    assert f"rlad run {folder / 'recipe.yaml'} --fork NAME --set" in said.out
    assert "--resume" not in said.out


def test_a_row_that_somebody_else_wrote_is_shown_as_far_as_it_goes(
    rlad: Callable[..., Said], tmp_path: Path
) -> None:
    folder = a_run(tmp_path / "mine")
    (folder / "metrics.jsonl").write_text('{"step": 0, "reward_mean": 2.5}\n{"step": 1, "seconds": {}}\n')
    said = rlad("watch", str(folder))
    assert (said.code, said.err) == (0, "")
    assert "step    1    reward 2.50\nstep    2" in said.out
