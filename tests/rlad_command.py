"""The command `rlad` run in the test's own process, as the fixture `rlad` of the conftest gives it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.cli import app
from services.cli.main import main


@dataclass(frozen=True)
class Said:
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


def in_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> Callable[..., Said]:
    """Runs the command with the arguments that it is called with, in a folder."""
    monkeypatch.chdir(folder)
    for name, value in app._QUIET.items():
        monkeypatch.setenv(name, value)  # so that it is undone

    def command(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["rlad", *arguments])
        code = main()
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return command
