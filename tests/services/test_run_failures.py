"""A run that fails: told in a sentence, its whole in the folder, and never hidden by what fails after it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rlad_command import Said

from services.base.failures import plain, said
from services.run import run as runs

SERVE_SAYS = """The deployment failed to start 3 times in a row. Error:
\x1b[36mray::ServeReplica:x-rollout:Rollout.initialize_and_get_metadata()\x1b[39m (pid=1, ip=127.0.0.1)
  File "/x/concurrent/futures/_base.py", line 449, in result
Traceback (most recent call last):
  File "/x/engine.py", line 3, in start
    raise ValueError("inner")
ValueError: inner

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/x/replica.py", line 9, in initialize
RuntimeError: the weights in model.safetensors are broken
Write another folder"""


class Unplugged:
    """The run's outermost parts, without a cluster."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outcome: Callable[[], Any]) -> None:
        monkeypatch.setattr(runs, "cluster", lambda *_, **__: nullcontext())
        monkeypatch.setattr(runs, "announced", lambda _: nullcontext())
        monkeypatch.setattr(runs, "_carry_out", lambda *_: outcome())


def fails() -> Any:
    raise RuntimeError(SERVE_SAYS)


def test_a_failure_is_a_sentence_and_its_whole_is_in_the_folder(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Unplugged(monkeypatch, fails)
    said = rlad("run", "kk-tiny-teacher-sft")
    assert said.code == 1
    assert said.err.startswith(
        "failed: RuntimeError: the weights in model.safetensors are broken\nWrite another"
    )
    assert "Traceback" not in said.err + said.out
    folder = tmp_path / "runs" / "kk-tiny-teacher-sft"
    assert "ValueError: inner" in (folder / "failure.log").read_text()
    # No step was done: the same command is no second run.
    assert rlad("run", "kk-tiny-teacher-sft").err == said.err


def test_a_report_that_fails_hides_nothing(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_room(_: Path) -> None:
        raise OSError(28, "No space left on device")

    Unplugged(monkeypatch, lambda: ValueError("the gradient is not finite"))
    monkeypatch.setattr(runs, "write_report", no_room)
    monkeypatch.setattr(Path, "write_text", _but_the_failure(Path.write_text))
    said = rlad("run", "kk-tiny-teacher-sft")
    assert said.code == 1
    assert said.err.startswith("failed: the gradient is not finite\n")
    assert "could not be written there: No space left on device" in said.err
    assert "the report cannot be written: [Errno 28] No space left on device" in said.out


def _but_the_failure(write: Callable[..., int]) -> Callable[..., int]:
    def write_text(file: Path, *args: Any, **kwargs: Any) -> int:
        if file.name == "failure.log":
            raise OSError(28, "No space left on device")
        return write(file, *args, **kwargs)

    return write_text


def test_a_cluster_that_cannot_be_had_is_found_before_an_engine(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(runs, "cluster", unreachable)
    said = rlad("run", "kk-tiny-teacher-sft", "--set", "cluster.address=nowhere:1")
    assert said.code == 2
    assert "refused: the Ray cluster at nowhere:1 cannot be joined: nobody there" in said.err


def test_what_is_said_of_texts_with_stacks() -> None:
    assert plain("no stack\n  here") == "no stack\n  here"
    assert plain(SERVE_SAYS).startswith("RuntimeError: the weights")
    assert said(ValueError()) == "ValueError"
