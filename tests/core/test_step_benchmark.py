"""Both sides of a step have the same responses, and what cannot be compared is refused before a start."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from benchmarks import step


@pytest.mark.parametrize(
    ("prompts", "group", "at_once"),
    [(32, 8, 64), (4, 8, 32), (12, 8, 48), (5, 24, 24), (13, 8, 8), (3, 100, 100)],
)
def test_trl_trains_on_all_of_a_step_in_whole_groups(prompts: int, group: int, at_once: int) -> None:
    assert step.trained_at_once(None, prompts, group) == at_once
    assert prompts * group % at_once == at_once % group == 0


def test_more_than_a_step_is_all_of_it() -> None:
    assert step.trained_at_once(64, 4, 8) == 32
    assert step.trained_at_once(16, 4, 8) == 16


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prompts", "12", "--sequences", "64"], "Write one of 8, 16, 24, 32, 48, 96"),
        (["--prompts", "5", "--group", "24", "--sequences", "64"], "Write one of 24, 120"),
        (["--prompts", "4", "--group", "6", "--sequences", "8"], "Write one of 6, 12, 24"),
        (["--shape", "14m"], "such as --responses 84"),
        (["--shape", "32k", "--responses", "own"], "such as --responses 84"),
        (["--responses", "0"], "no number of tokens"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_starts(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("a side was started")

    monkeypatch.setattr(step, "ours", started)
    monkeypatch.setattr(step, "write_sampler", started)
    command = typer.Typer()
    command.command()(step.main)
    refused = CliRunner().invoke(command, arguments, env={"COLUMNS": "300"})
    assert refused.exit_code == 2
    assert says in refused.output


def test_settings_may_be_longer_than_an_argument(tmp_path: Path) -> None:
    """An interpreter that tells how many bytes it was given."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nwc -c\n")
    python.chmod(0o755)
    settings = {"threads": 1, "prompts": [[{"role": "user", "content": "x" * 300_000}]]}
    assert step.theirs(python, settings) == len(json.dumps(settings))


def test_sides_take_turns_and_the_ratio_of_each_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two turns on a machine that gets slower: ours takes 2 and 4 s a step, the other one 3 and 4."""
    order: list[str] = []

    def ours(recipe: dict[str, Any], folder: Path) -> list[dict[str, float]]:
        assert recipe["output"]["dir"] == str(folder)
        assert not list(folder.iterdir()), "each turn has a folder of its own"
        order.append("rlad")
        first = {"step": 90.0, "rollout": 9.0, "tokens": 5.0}
        return [first, *({**first, "step": 2.0 * order.count("rlad")} for _ in range(3))]

    def theirs(python: Path, settings: dict[str, Any]) -> dict[str, Any]:
        assert (python, settings["sequences"], settings["prompts"]) == (Path("python"), 16, ["a chat"])
        order.append("TRL")
        versions = {"trl": "1.16.0", "torch": "2.13.0"}
        return {
            "seconds": [90.0] + 3 * [2.0 + order.count("TRL")],
            "lengths": [9, 6, 6, 6],
            "versions": versions,
        }

    monkeypatch.setattr(step, "ours", ours)
    monkeypatch.setattr(step, "theirs", theirs)
    monkeypatch.setattr(step, "messages_of", lambda config: ["a chat"])
    made = step.recipe("rlad:kk-student", 96, prompts=2, group=8, steps=4, threads=1)
    sides = step.in_turns(made, {"sequences": 16}, Path("python"), tmp_path, turns=2)
    assert order == ["rlad", "TRL", "rlad", "TRL"]
    console = Console(width=140, record=True)
    monkeypatch.setattr(step, "console", console)
    step._show(sides)
    shown = console.export_text()
    assert "TRL, 16 at once: trl 1.16.0, torch 2.13.0" in shown
    assert "transformers" in shown
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
    assert ["rlad", "3.00", "9.00", "0.00", "0.00", "5", "1.17 times as fast"] in rows
    assert rows[-2:] == [
        ["1", "2.00", "3.00", "1.50 times as fast"],
        ["2", "4.00", "4.00", "1.00 times as fast"],
    ]
