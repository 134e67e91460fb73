"""The page of an evaluation's folder, which keeps what was ever asked of its model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlad_core.tasks import Prompt
from services.evaluate.questions import Questions
from services.evaluate.store import AnswerStore
from services.report.answers_page import write_answers_page
from services.report.asked import keep_asked


def prompts(file: str, count: int) -> list[Prompt]:
    """All of one subset, whatever file they are from."""
    return [
        Prompt(f"{file} {n}", "math", "test", [{"role": "user", "content": "?"}], "5") for n in range(count)
    ]


def row(prompt: str, sample: int, *, correct: bool) -> dict[str, Any]:
    return {
        "prompt_id": prompt, "task": "math", "subset": "test", "sample_index": sample, "prompt": "text",
        "gold": "5", "opened": "", "response": f"said to {prompt}", "finish_reason": "stop", "tokens": 2,
        "reward": float(correct), "reward_parts": {}, "correct": correct, "verdict": "", "fault": "",
        "response_token_ids": None, "rollout_logprobs": None,
    }  # fmt: skip


def answer(folder: Path, asked: Sequence[Prompt], samples: int, *, correct: bool, told: bool = True) -> None:
    """As an evaluation leaves it."""
    questions = Questions(asked, samples)
    with AnswerStore(folder, {"label": "m"}, "judge") as store:
        if told:
            keep_asked(folder, questions.asked, samples)
        have = [key for key in questions.rows() if store.gold(*key) is None]
        store.add(row(prompt, sample, correct=correct) for prompt, _, sample in have)
        store.merge()


def page(folder: Path) -> str:
    return re.sub(
        r"<style.*?</style>|<script.*?</script>", "", write_answers_page(folder).read_text(), flags=re.S
    )


def test_other_data_under_the_same_name_are_not_mixed_in(tmp_path: Path) -> None:
    answer(tmp_path, prompts("gsm8k", 4), 1, correct=False)
    assert "said to gsm8k 0" in page(tmp_path)
    answer(tmp_path, prompts("mine", 3), 1, correct=False)
    text = page(tmp_path)
    assert "said to mine 0" in text
    assert "gsm8k" not in text


def test_what_an_endpoint_did_not_tell_is_shown_as_such(tmp_path: Path) -> None:
    silent = {"finish_reason": None, "tokens": None}
    with AnswerStore(tmp_path, {"label": "m"}, "judge") as store:
        store.add([row("one", 0, correct=False) | silent])
        store.merge()
    text = page(tmp_path)
    assert "<td>not told</td>" in text
    assert "length not told, end not told ·" in text


def test_fewer_samples_of_more_prompts_after_more_of_fewer(tmp_path: Path) -> None:
    answer(tmp_path, prompts("a", 2), 8, correct=True)
    answer(tmp_path, prompts("a", 10), 1, correct=False)
    text = page(tmp_path)  # 2 of 10 are right
    assert "20.0" in text
    assert "Mean@1" in text
    answer(tmp_path, prompts("a", 2), 8, correct=True)
    assert "100.0" in page(tmp_path)


def test_a_folder_that_does_not_say_is_shown_whole(tmp_path: Path) -> None:
    answer(tmp_path, prompts("a", 2), 1, correct=False, told=False)
    answer(tmp_path, prompts("b", 2), 1, correct=False, told=False)
    text = page(tmp_path)
    assert "said to a 0" in text
    assert "said to b 0" in text


def test_what_was_asked_for_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_asked(tmp_path, [("a", "test")], 8)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            keep_asked(tmp_path, [("b", "test")], 1)
    assert json.loads((tmp_path / "asked.json").read_text())["prompts"] == [["a", "test"]]
    answer(tmp_path, prompts("a", 2), 1, correct=True)
    keep_asked(tmp_path, [("new", "test")], 1)
    with pytest.raises(ValueError, match="nothing of what was asked for last is answered yet"):
        write_answers_page(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [("settings.json", "{"), ("settings.json", "[]"), ("asked.json", '{"samples": 1}'), ("asked.json", "1")],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    answer(tmp_path, prompts("a", 2), 1, correct=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} is broken"):
        write_answers_page(tmp_path)
