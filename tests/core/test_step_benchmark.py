"""Both sides of a step have the same responses, and what cannot be compared is refused before a start."""

import json
from pathlib import Path

import pytest
import typer
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
