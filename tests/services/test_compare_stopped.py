"""A comparison that is stopped says what it waits for, and has an end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.compare import carry_out as carrying

DEAF = """
import signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
print("up", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def heeds_ctrl_c() -> Iterator[None]:
    """Tests that are started in the background ignore it otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def deaf() -> Iterator[Any]:
    """A run that heeds no signal that can be ignored."""
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    yield carrying._AtWork(SimpleNamespace(name="trrd-seed0"), Path(), 1, process)  # type: ignore[arg-type]
    process.kill()
    process.wait(60)


def stopped(run: Any, monkeypatch: pytest.MonkeyPatch, interrupted_at: int) -> list[str]:
    """What was said until it had ended; Ctrl-C comes with the sentence of this number."""
    monkeypatch.setattr(carrying, "_WORDS_EVERY_S", 0.2)
    said: list[str] = []

    def say(sentence: str) -> None:
        said.append(sentence)
        if len(said) == interrupted_at:
            signal.raise_signal(signal.SIGINT)

    carrying._stop([run], SimpleNamespace(say=say))  # type: ignore[arg-type]
    return said


def test_a_run_that_does_not_end_is_told_of_until_it_is_killed(
    deaf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = "waiting for the step and the checkpoint of trrd-seed0; Ctrl-C again ends at once"
    assert stopped(deaf, monkeypatch, interrupted_at=3) == [
        *[waiting] * 3,
        "waiting for the end of trrd-seed0",
        "killing trrd-seed0, which did not end",
    ]
    assert deaf.process.poll() == -signal.SIGKILL
