"""An evaluation on a running rollout service is stopped by Ctrl-C and killed: the same command goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from evaluate_command import answers, finish, start, wait_for_answers
from rlad_command import Said

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

PROMPTS, SAMPLES = 60, 3


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    http: httpx.Client, tmp_path: Path, rlad: Callable[..., Said]
) -> None:
    url = f"{str(http.base_url).rstrip('/')}/rollout"
    command = (
        *(url, "--people", "2", "--count", str(PROMPTS), "--k", str(SAMPLES), "--concurrency", "4"),
        *("--max-response-length", "120"),
    )
    process = start(tmp_path, *command)
    folder = wait_for_answers(process, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    printed = finish(process, 1)
    first = answers(folder)
    assert 0 < len(first) < PROMPTS * SAMPLES
    assert f"stopped: {len(first)} of {PROMPTS * SAMPLES} responses are kept in evaluations" in printed
    assert f"Go on with the same command:\n  rlad evaluate {url} --people 2" in printed
    assert "Traceback" not in printed

    # Killed, it loses no more than it had not written yet.
    process = start(tmp_path, *command)
    while len(answers(folder)) <= len(first):
        assert process.poll() is None, finish(process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    second = answers(folder)

    printed = finish(start(tmp_path, *command))
    whole = answers(folder)
    assert first.items() < second.items() < whole.items()
    assert len(whole) == PROMPTS * SAMPLES
    assert not list((folder / "parts").glob("*.parquet"))
    assert "2_people" in printed
    assert "Pass@k in %" in printed
    assert "@2" in printed
    assert f"rlad show {folder.relative_to(tmp_path)} --wrong" in printed

    # With fewer samples all is there: nothing is asked.
    said = rlad("evaluate", *command[:6], "1", *command[7:])
    assert said.code == 0
    assert "Mean@1" in said.out
    assert answers(folder) == whole
