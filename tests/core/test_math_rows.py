"""Rows of the field's files as math problems: their answers, columns and faults.

Published files lie in `data/math/` of a folder named by the variable RLAD_SHARED, or in `shared` beside the
repository; the tests that need them are skipped without.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from math_rows import GSM8K, MATH, chat, write

from rlad_core.tasks.math.prompt import INSTRUCTION, asking_for_a_box
from rlad_core.tasks.math.published import Format, ProblemReader, comparable, number_text
from rlad_core.tasks.math.task import Math, ProblemSource
from rlad_core.tasks.rows import AskedRow, read_file

SHARED = Path(os.environ.get("RLAD_SHARED", Path(__file__).parents[3] / "shared"))
AIME = sorted((SHARED / "data" / "math").glob("*.parquet"))

needs_files = pytest.mark.skipif(not AIME, reason=f"no published problems below {SHARED}")


@pytest.mark.parametrize(
    ("row", "layout", "answer", "solution"),
    [
        (GSM8K, "gsm8k", "42", "Half of 10 is 5.\nTwice that and 32 is 42."),
        ({"question": "?", "answer": "#### 1,000"}, "gsm8k", "1,000", None),
        ({"question": "?", "answer": "a #### 1\n#### 2"}, "gsm8k", "2", "a #### 1"),
        (MATH, "math", r"\frac{1}{2}", MATH["solution"]),
        ({"problem": "?", "solution": r"\boxed{1} \boxed{2}"}, "math", "2", r"\boxed{1} \boxed{2}"),
        ({"problem": "?", "solution": r"so $\boxed 2$."}, "math", "2", r"so $\boxed 2$."),
        (chat("42"), "chat", "42", None),
        (chat(42), "chat", "42", None),
        (chat(["42"]), "chat", "42", None),
        (chat('["\\\\frac{1}{2}"]'), "chat", r"\frac{1}{2}", None),
        (chat(r"$\boxed{42}$"), "chat", "42", None),
        (chat("[1, 2]"), "chat", "[1, 2]", None),
        (chat(27.0), "chat", "27", None),
        (chat([27.5]), "chat", "27.5", None),
        (chat(1e-7), "chat", "0.0000001", None),
        (chat(1e21), "chat", "1000000000000000000000", None),
        (chat(-0.0), "chat", "0", None),
        ({"prompt": "What is it?", "reward_model": {"ground_truth": "42"}}, "chat", "42", None),
        # Whatever the columns are called.
        (chat("42"), "auto", "42", None),
        (GSM8K, "auto", "42", "Half of 10 is 5.\nTwice that and 32 is 42."),
        (MATH, "auto", r"\frac{1}{2}", MATH["solution"]),
        ({"question": "What is it?", "answer": "2"}, "auto", "2", None),
        ({"question": "What is it?", "answer": 27.0}, "auto", "27", None),
        ({"problem": "What is it?", "answer": "\\pi"}, "auto", "\\pi", None),
        ({"problem": "?", "answer": 3, "solution": "It is 3."}, "auto", "3", "It is 3."),
        ({"problem": "?", "answer": " ", "solution": r"\boxed{3}"}, "auto", "3", r"\boxed{3}"),
        ({"Problem": "?", "Answer": 70, "ID": "2024-I-1"}, "auto", "70", None),
        ({"prompt": "?", "answer": r"so $\boxed{7}$"}, "auto", "7", None),
        ({"query": "?", "final_answer": ["7"]}, "auto", "7", None),
    ],
)
def test_answers_of_rows(row: dict[str, Any], layout: Format, answer: str, solution: str | None) -> None:
    problem = ProblemReader(layout).problem(row)
    assert (problem.answer, problem.solution) == (answer, solution)
    assert problem.messages[-1]["content"].endswith(f"?\n{INSTRUCTION}")


@pytest.mark.parametrize(
    ("row", "layout", "says"),
    [
        ({}, "chat", "there is no column prompt; there is nothing"),
        ({"prompt": None, "reward_model": {}}, "chat", "nothing in column prompt"),
        (chat(None), "chat", "there is no column reward_model.ground_truth"),
        (chat(""), "chat", "nothing in column reward_model.ground_truth"),
        (chat(True), "chat", "not one answer"),
        (chat(["1", "2"]), "chat", "not one answer"),
        (chat('["1", "2"]'), "chat", "not one answer"),
        (chat('["1"'), "chat", "begins like a list of texts"),
        (chat('["1", ' + "[" * 100_000), "chat", "begins like a list of texts"),
        (chat(r"\boxed{1"), "chat", "nothing in"),
        (chat(float("nan")), "chat", "no finite number"),
        (chat(float("inf")), "chat", "no finite number"),
        (chat("NaN"), "chat", "is NaN, which answers nothing"),
        (chat("-inf"), "chat", "is -inf, which answers nothing"),
        (chat("4", "smile \ud83d"), "chat", "a lone surrogate"),
        (chat("\ud83d"), "chat", "a lone surrogate"),
        (chat("1", " "), "chat", "the last message of the prompt is empty"),
        (
            {"prompt": 5, "reward_model": {"ground_truth": "1"}},
            "chat",
            "neither a text nor a list of messages",
        ),
        ({"prompt": [{"role": "user"}], "reward_model": {}}, "chat", "no role and content"),
        ({"prompt": [], "reward_model": {}}, "chat", "neither a text nor a list of messages"),
        (
            {"prompt": "[{'role': 'user' 'content': 'x'}]", "reward_model": {}},
            "chat",
            "begins like a chat that is written as text",
        ),
        (
            {"prompt": [{"role": "assistant", "content": "x"}], "reward_model": {}},
            "chat",
            "the assistant's own",
        ),
        ({"prompt": [{"role": "system", "content": "x"}], "reward_model": {}}, "chat", "not the user's"),
        ({"question": "?", "answer": "42"}, "gsm8k", "no '#### 42'"),
        ({"question": "?", "answer": "42 ####"}, "gsm8k", "no '#### 42'"),
        ({"question": 5, "answer": "#### 42"}, "gsm8k", "neither a text"),
        ({"problem": "?", "solution": "no box"}, "math", "nothing in"),
        (GSM8K, "math", "there is no column problem"),
        (
            {"q": "?", "a": "1"},
            "auto",
            "there is no column prompt, question, problem.* there is q, a. Name yours",
        ),
        ({"question": "?", "answer": None}, "auto", "nothing in column answer"),
    ],
)
def test_a_row_that_is_none_says_why(row: dict[str, Any], layout: Format, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ProblemReader(layout).problem(row)


def test_every_prompt_asks_for_a_box_once() -> None:
    asked = [{"role": "system", "content": "Use \\boxed{}."}, {"role": "user", "content": "?"}]
    assert asking_for_a_box(asked) == asked
    bare = [{"role": "user", "content": "?"}]
    assert asking_for_a_box(asking_for_a_box(bare)) == asking_for_a_box(bare) != bare
    assert bare[0]["content"] == "?"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("27.0", "27"),
        ("1,000", "1000"),
        ("$5", "5.00"),
        ("+3", "3"),
        (r"\frac 1 2", r"\frac12"),
        (".5", "0.50"),
        (r"\frac{1}{2}", r"\dfrac{1}{2}"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        ("1 000", "1,000"),
    ],
)
def test_answers_that_are_written_otherwise_do_not_contradict(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.1", "0.10000001"),
        ("1,00", "100"),
        ("x", "X"),
        ("-3", "3"),
        ("2 1/2", "21/2"),
        (r"5\%", "5"),
        ("9" * 1500, "9" * 1501),
    ],
)
def test_other_answers_do(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_text_is_that_number(value: float) -> None:
    text = number_text(value)
    assert "e" not in text.lower()
    assert float(text) == value


# --- files -------------------------------------------------------------------------------------------------


def prompts_in(path: Path, layout: Format = "auto", **columns: str) -> Math:
    return Math({("train", "file"): ProblemSource(path, layout, **columns)})


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize(("row", "layout"), [(GSM8K, "gsm8k"), (MATH, "math"), (chat("42"), "chat")])
def test_files_of_both_kinds_are_read(
    tmp_path: Path, suffix: str, row: dict[str, Any], layout: Format
) -> None:
    math = prompts_in(write(tmp_path / f"rows{suffix}", [row, row]), layout)
    [prompt] = math.prompts("train", "file", None, 0)
    assert prompt.gold == ProblemReader(layout).problem(row).to_gold()
    assert prompt.messages[0]["content"].startswith("What is it?")
    assert not math.faults("train", "file")


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_bad_row_or_pair_costs_no_other(tmp_path: Path, suffix: str) -> None:
    rows = [chat("1"), chat("1", "Else?"), chat("2"), chat(""), chat("5.0", "More?"), chat("5", "More?")]
    path = write(tmp_path / f"rows{suffix}", rows)
    math = prompts_in(path)
    kept = [json.loads(prompt.gold)["answer"] for prompt in math.prompts("train", "file", None, 0)]
    assert kept == ["1", "5.0"]
    place, truth = "line" if suffix == ".jsonl" else "row", "reward_model.ground_truth"

    assert [(fault.where, fault.reason) for fault in math.faults("train", "file")] == [
        (f"{path}, {place} 4", f"nothing in column {truth}; there is prompt, reward_model"),
        (f"{path}, {place} 1", f"asks the same as {place} 3 with another answer: 1 and 2"),
        (f"{path}, {place} 3", f"asks the same as {place} 1 with another answer: 2 and 1"),
    ]
    # What is wrong is no more than so many prompts less.
    assert len(math.prompts("train", "file", 5, 0)) == 2
    with pytest.raises(ValueError, match="has 2 different prompts, fewer than 6"):
        math.prompts("train", "file", 6, 0)


@pytest.mark.parametrize("written", [json.dumps, repr], ids=["JSON", "Python"])
def test_lists_and_mappings_may_stand_in_cells_of_a_csv_file(
    tmp_path: Path, written: Callable[[Any], str]
) -> None:
    row = chat(["42"], 'What is "it"?\nSay it.')
    with (path := tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([row.keys(), [written(value) for value in row.values()]])
        csv.writer(file).writerow(["[1, 2] is what?", written({"ground_truth": written(["3"])})])
    math = prompts_in(path)
    chat_of_one, text = math.prompts("train", "file", None, 0)
    assert chat_of_one.messages == asking_for_a_box(row["prompt"])
    assert text.messages[0]["content"].startswith("[1, 2] is what?")
    assert [json.loads(each.gold)["answer"] for each in (chat_of_one, text)] == ["42", "3"]
    assert not math.faults("train", "file")


def test_a_row_that_is_nested_too_deeply_costs_no_other(tmp_path: Path) -> None:
    class Deep(ProblemReader):
        def read(self, values: dict[str, Any]) -> AskedRow:
            if values["answer"] == "deep":
                raise RecursionError
            return super().read(values)

    path = write(tmp_path / "rows.jsonl", [{"prompt": "?", "answer": "deep"}, {"prompt": "!", "answer": "1"}])
    found = read_file(str(path), None, Deep())
    assert len(found.rows) == 1
    assert [fault.reason for fault in found.faults] == ["is nested too deeply to be read"]


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", [{"q": "?", "meta": {"a": 27.0}, "how": "9 * 3"}])
    math = prompts_in(path, prompt="q", gold="meta.a", solution="how")
    [prompt] = math.prompts("train", "file", None, 0)
    assert json.loads(prompt.gold) == {"answer": "27", "solution": "9 * 3"}
    assert prompt.where == f"{path}, row 1"
    with pytest.raises(ValueError, match=r"rows\.parquet: there is no column x; there is q, meta, how"):
        prompts_in(path, prompt="x").prompts("train", "file", None, 0)


def test_odd_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "broken.parquet").write_bytes(b"nonsense")
    for name, says in (
        ("empty.jsonl", "has no rows"),
        ("broken.parquet", "is no Parquet file"),
        ("none.parquet", "there is no such file"),
        ("rows.txt", "there is no such file"),
    ):
        with pytest.raises(ValueError, match=says):
            prompts_in(tmp_path / name).prompts("train", "file", None, 0)


@needs_files
@pytest.mark.parametrize("path", AIME, ids=lambda path: path.stem)
def test_published_answers_are_right_and_other_numbers_wrong(path: Path) -> None:
    source = Math({("evaluation", path.stem): ProblemSource(path, "chat")})
    prompts = source.prompts("evaluation", path.stem, None, 0)
    assert len(prompts) == len({prompt.prompt_id for prompt in prompts}) == 30
    stored = [row["reward_model"]["ground_truth"] for row in pq.read_table(path).to_pylist()]
    for prompt, truth in zip(prompts, stored, strict=True):
        assert json.loads(prompt.gold) == {"answer": truth, "solution": None}
        assert "\\boxed{}" in prompt.messages[-1]["content"]
        number = int(truth.removesuffix("^\\circ"))
        for text in (truth, str(number), f"{number:03}"):
            assert source.verify(f"<think> hm </think> So $\\boxed{{{text}}}$", prompt.gold).correct
        for other in (number + 1, -number):
            assert not source.verify(f"\\boxed{{{other}}}", prompt.gold).correct


def test_an_integer_of_any_length_is_written_as_it_is() -> None:
    assert number_text(10**400) == "1" + "0" * 400
    assert number_text(Decimal(10**400)) == "1" + "0" * 400
