"""Every command that README, the pages and `--help` show is one that the program understands; those of README
and of docs/services.md are carried out.

What serves is in test_services_page.py, what a page shows the output of in that page's own test.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import ROOT, page, run

from services.cli.app import app

README = (ROOT / "README.md").read_text()
PAGES = {"README.md": README, **{path.name: page(path.name) for path in sorted((ROOT / "docs").glob("*.md"))}}
#: What makes a command short, by how it begins. The last one of an option counts.
SHORT = {
    "rlad run kk-tiny-trrd": "--set stages.0.steps=2 --set learner.warmup_steps=0 "
    "--set learner.checkpoint_every=1 --set rollout.prompts_per_step=2 --set task.evaluation.count=4",
    "rlad run runs/kk-tiny-trrd/recipe.yaml --fork": "--set stages.0.steps=3",
    "rlad evaluate": "--people 2 --count 4",
    "rlad generate": "--count 4",
    "python -m benchmarks.scoring": "--sequences 8",
}


def shown(text: str, program: str) -> list[str]:
    """Commands in blocks of a page; in sentences they are often named in part."""
    lines = re.findall(rf"^(?: {{4,}}|\$ ){program} (\S.*)$", text, re.MULTILINE)
    return [f"{program} {shlex.join(shlex.split(line, comments=True))}" for line in lines]


def root() -> Any:
    return typer.main.get_command(app)


def of_help() -> Iterator[str]:
    """The examples of `--help`."""
    group = root()
    with group.make_context("rlad", ["doctor"]) as context:
        commands = [group.get_command(context, name) for name in group.list_commands(context)]
    for text in [group.help, *(command.help for command in commands)]:
        for line in (text or "").splitlines():
            if line.strip().startswith("rlad "):
                yield line.strip()


class NotUnderstoodError(Exception):
    """What a person would be told with exit code 2."""


def understood(command: str) -> None:
    """As far as its options and arguments go.

    Raises:
        NotUnderstoodError: there is no such command, option or argument.
    """
    # What the shell does with the output is its own business.
    _, *arguments = takewhile(lambda word: word not in ("|", ">"), shlex.split(command))
    group = root()
    try:
        with group.make_context("rlad", list(arguments)) as context:
            name, sub, rest = group.resolve_command(context, list(arguments))
            sub.make_context(name, rest, parent=context)
    except Exception as error:
        if (code := getattr(error, "exit_code", None)) == 0:  # --help
            return
        if code == 2:  # typer has a click of its own, whose classes have no name
            raise NotUnderstoodError(f"{command}: {error}") from error
        raise


@pytest.mark.parametrize("name", PAGES)
def test_commands_of_a_page_are_understood(name: str) -> None:
    for command in shown(PAGES[name], "rlad"):
        if "..." in command or "NAME" in command:  # a form, and no command
            continue
        understood(command)


def test_examples_of_help_are_understood() -> None:
    examples = [*of_help()]
    assert len(examples) >= 25
    assert {shlex.split(example)[1] for example in examples} == {*root().commands}
    for example in examples:
        understood(example)


def test_what_is_wrong_is_seen() -> None:
    for wrong in ("rlad serve", "rlad run x --no-such", "rlad nothing"):
        with pytest.raises(NotUnderstoodError):
            understood(wrong)


def short(command: str) -> str:
    more = next((more for begins, more in SHORT.items() if command.startswith(begins)), "")
    return f"{command} {more}".strip()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_commands_of_the_readme_are_carried_out(tmp_path: Path) -> None:
    """In its order, in one folder; runs of a step."""
    rlad = f"{sys.executable} -m services"
    found = [each for each in shown(README, "rlad") if not each.startswith("rlad serve")]
    assert {"init", "plan", "run", "evaluate", "show", "report"} <= {each.split()[1] for each in found}
    for command in found:
        code, said = run(short(command).replace("rlad", rlad, 1), tmp_path, limit_s=1200)
        assert code == 0, (command, said[-3000:])


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_benchmark_of_the_services_page() -> None:
    [command] = shown(PAGES["services.md"], "python -m benchmarks.scoring") or [""]
    code, said = run(short(command), ROOT, limit_s=900)
    assert code == 0, said[-3000:]
    assert "torch engine, REST, Arrow" in said
