"""Words that a shell hands to ``rlad`` otherwise than was meant: nothing, a ``~``, a file for a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rlad_command import Said


def words(text: str) -> str:
    return re.sub(r"[\s│]+", " ", text)


@pytest.mark.parametrize(
    ("command", "option", "advice"),
    [
        # Without the check the recipe or the model is what is wrong, so nothing would start here either.
        (("run", "nosuch"), "--fork", "Write a value, or leave it out"),
        (("evaluate", "rlad:nosuch"), "--task", "Write a value, or leave it out"),
        (("evaluate", "rlad:nosuch"), "--suite", "Write a value, or leave it out"),
        (("evaluate", "rlad:nosuch"), "--file", "Write a value, or leave it out"),
        (("k8s", "nosuch"), "--namespace", "Write a value, or leave it out"),
        (("learn", "nosuch"), "--experience", "Write a value"),
    ],
)
def test_an_option_without_a_word_is_not_taken_for_one_that_is_left_out(
    rlad: Callable[..., Said], command: tuple[str, ...], option: str, advice: str
) -> None:
    """What an unset variable leaves of ``--fork "$NAME"``, which would train from the beginning."""
    for given in ((option, ""), (f"{option}=",)):
        said = rlad(*command, *given)
        assert (said.code, said.out) == (2, "")
        assert words(said.err).strip().endswith(f"Invalid value for {option}: is empty. {advice}")


@pytest.mark.parametrize("place", ["nope", "math", "reward.py", "reward.py:", "recipe.yaml"])
def test_a_task_to_judge_that_names_no_code_is_told_what_to_write(
    rlad: Callable[..., Said], place: str
) -> None:
    said = rlad("serve", "verifier", "--task", place)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"--task {place}: names no code. Write file.py:Class or file.py:function")


def test_a_home_that_the_shell_left_as_it_stands_is_found(
    rlad: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells expand none in ``'~/a-*.jsonl'`` and ``--token-file=~/token``."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a-1.jsonl").write_text(json.dumps({"prompt": "a", "response": "b"}))
    (tmp_path / "home" / "token").write_text("two\twords \x01")
    asked = ("score", "~/a-*.jsonl", "--url", "http://x", "--out", "o.jsonl")
    assert "--prompt q: there is no such column" in words(rlad(*asked, "--prompt", "q").err)
    said = rlad(*asked, "--token-file=~/token")
    assert said.code == 2
    assert f"{tmp_path}/home/token: the token has control characters" in said.err


def test_a_model_is_fetched_to_no_file(rlad: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for to in (tmp_path / "file", tmp_path / "file" / "below"):
        said = rlad("fetch", "rlad:kk-student", "--to", str(to))
        assert (said.code, said.out) == (2, "")
        assert "is a file. Write another folder" in words(said.err)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_without_a_recipe_is_told_as_one(rlad: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    said = rlad("plan", "mine")
    assert (said.code, said.out) == (2, "")
    assert "the recipe ('mine'): is a folder without a recipe.yaml. Write the path of one" in said.err


def test_benchmarks_of_which_none_is_named_are_told_by_their_own_option(rlad: Callable[..., Said]) -> None:
    said = rlad("evaluate", "rlad:kk-student", "--suite", ",")
    assert said.code == 2
    assert "Invalid value for --suite: ',' names none; write e.g. aime24,math500" in words(said.err)
