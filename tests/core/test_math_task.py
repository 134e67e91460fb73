"""Math problems are read from the field's files, asked for, judged and demonstrated; recipes name the files.

Published files lie in `data/math/` of a folder named by the variable RLAD_SHARED, or in `shared` beside the
repository; the tests that need them are skipped without.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from rlad_core.config import ConfigError, RunConfig, dump, parse, validate
from rlad_core.prompt_stream import PromptStream, held_out_prompts, tasks_of
from rlad_core.tasks import Part, Task
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from rlad_core.tasks.knights_knaves.tiny import build_tokenizer
from rlad_core.tasks.math.prompt import INSTRUCTION, asking_for_a_box
from rlad_core.tasks.math.published import Format, ProblemReader, comparable, number_text
from rlad_core.tasks.math.settings import Settings
from rlad_core.tasks.math.task import Math, ProblemSource
from rlad_core.tasks.math.verifier import verify

SHARED = Path(os.environ.get("RLAD_SHARED", Path(__file__).parents[3] / "shared"))
AIME = sorted((SHARED / "data" / "math").glob("*.parquet"))

needs_files = pytest.mark.skipif(not AIME, reason=f"no published problems below {SHARED}")

SOLUTION = "Half of 10 is <<10/2=5>>5.\nTwice that and 32 is 42."
GSM8K = {"question": "What is it?", "answer": f"{SOLUTION}\n#### 42"}
MATH = {"problem": "What is it?", "solution": r"First $\frac12$, so $\boxed{\frac{1}{2}}$.", "level": "1"}


def chat(truth: Any, content: str = "What is it?") -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": content}], "reward_model": {"ground_truth": truth}}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# --- rows --------------------------------------------------------------------------------------------------


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
        (chat('["1"'), "chat", "begins like a JSON list"),
        (chat(r"\boxed{1"), "chat", "nothing in"),
        (chat(float("nan")), "chat", "no finite number"),
        (chat(float("inf")), "chat", "no finite number"),
        (chat("NaN"), "chat", "is NaN, which answers nothing"),
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
    ],
)
def test_answers_that_are_written_otherwise_do_not_contradict(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(("one", "other"), [("0.1", "0.10000001"), ("1,00", "100"), ("x", "X"), ("-3", "3")])
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


# --- the task ----------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Math:
    rows = [chat(str(number), f"What is {number}?") for number in range(20)]
    return Math(
        {
            ("train", "numbers"): ProblemSource(write(tmp_path / "a.parquet", rows[:15]), "chat"),
            ("evaluation", "numbers"): ProblemSource(write(tmp_path / "b.jsonl", rows[15:]), "chat"),
        }
    )


def test_prompts_are_drawn_by_seed_and_keep_the_files_order(source: Math) -> None:
    everything = source.prompts("train", "numbers", None, 0)
    assert [json.loads(prompt.gold)["answer"] for prompt in everything] == [str(n) for n in range(15)]
    assert {(prompt.task, prompt.subset) for prompt in everything} == {("math", "numbers")}
    some = source.prompts("train", "numbers", 6, 1)
    assert some == source.prompts("train", "numbers", 6, 1)
    assert some == [prompt for prompt in everything if prompt in some]
    assert some != source.prompts("train", "numbers", 6, 2)
    assert source.subsets == ("numbers",)
    with pytest.raises(ValueError, match="has 15 different prompts, fewer than 16"):
        source.prompts("train", "numbers", 16, 0)
    with pytest.raises(ValueError, match="no data file is named test/numbers; there is train/numbers, eval"):
        source.prompts("test", "numbers", 1, 0)


def test_the_task_judges_without_files() -> None:
    math: Task = Math()
    assert math.verify("\\boxed{42}", '{"answer": "42"}').correct
    assert not math.verify("\\boxed{43}", '{"answer": "42", "solution": null}').correct
    with pytest.raises(ValueError, match="there is none"):
        math.prompts("train", "gsm8k", 1, 0)
    with pytest.raises(ValueError, match="without an end"):
        KnightsKnaves().prompts("train", "2_people", None, 0)


@pytest.mark.parametrize(
    "gold", ["42", "", "[]", "{}", '{"answer": 42}', '{"answer": " "}', "nonsense", '"x"']
)
def test_gold_of_another_make_is_refused(gold: str) -> None:
    with pytest.raises(ValueError, match=r"not written by task math|needs an answer"):
        Math().verify("\\boxed{42}", gold)


@pytest.mark.parametrize(
    ("row", "layout", "ending"),
    [
        (GSM8K, "gsm8k", "32 is 42.\nThe answer is $\\boxed{42}$."),
        (MATH, "math", MATH["solution"]),
        (
            {"problem": "?", "solution": r"\boxed{1} or \boxed{2}"},
            "math",
            "{1} or {2}\nThe answer is $\\boxed{2}$.",
        ),
        ({"problem": "?", "solution": r"so \boxed 2"}, "math", r"so \boxed 2"),
    ],
)
def test_the_datas_own_solution_demonstrates(row: dict[str, Any], layout: Format, ending: str) -> None:
    gold = ProblemReader(layout).problem(row).to_gold()
    shown = Math().demonstration(gold)
    assert shown.endswith(ending)
    assert verify(shown, json.loads(gold)["answer"]).correct


def test_without_a_solution_there_is_no_demonstration() -> None:
    with pytest.raises(ValueError, match="no worked solution for this problem"):
        Math().demonstration(ProblemReader().problem(chat("42")).to_gold())


# --- recipes -----------------------------------------------------------------------------------------------

RECIPE = """
name: example
policy: {model: "tiny:student", init: random, max_length: 512}
task:
  name: math
  train: {files: [{path: a.parquet}]}
  evaluation: {files: [{path: b.jsonl, name: held-out, count: 3}], seed: 4}
rollout: {max_response_length: 256}
stages: [{steps: 10, objective: {kind: grpo}}]
"""


def read(*overrides: str) -> RunConfig:
    return validate(parse(RECIPE), source="recipe.yaml", overrides=overrides)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*overrides)
    return str(caught.value)


@pytest.fixture
def folder(source: Math, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the two files of `source` that the recipe names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_names_data_files(folder: Path) -> None:
    config = read()
    assert isinstance(config.task, Settings)
    assert config.task.train.files[0].path == str(folder / "a.parquet")
    assert config.task.train_parts == (Part("train", "a", None, 0),)
    assert config.task.evaluation_parts == (Part("evaluation", "held-out", 3, 4),)
    assert validate(parse(dump(config)), "again") == config


def test_wrong_data_files_are_refused(folder: Path) -> None:
    said = refusal("task.train.files=[{path: none.parquet}]")
    assert f"task.train.files.0.path ('{folder}/none.parquet'"[:60] in said
    assert "there is no such file" in said
    (folder / "a.txt").touch()
    assert "is no data file. Write one that ends in .jsonl, " in refusal("task.train.files=[a.txt]")
    (folder / "c.jsonl").write_text('{"q": 1, "a": 2}')
    columns = "there is no column prompt, question, problem, query or instruction; there is q, a. Name yours"
    assert columns in refusal("task.train.files=[c.jsonl]")
    read("task.train.files=[c.jsonl]", "task.columns={prompt: q, gold: a}", "task.evaluation.files=[c.jsonl]")
    assert "task.columns.question ('q'): no such key" in refusal("task.columns={question: q}")
    assert "task.train.files.0.encoding ('utf-9'): is no encoding" in refusal(
        "task.train.files.0.encoding=utf-9"
    )
    twice = refusal("task.train.files=[{path: a.parquet}, {path: b.jsonl, name: a}]")
    assert "task.train.files.1.name ('a'): another file is reported as a already" in twice
    assert "task.train.files ([]): is empty. Write at least 1" in refusal("task.train.files=[]")
    assert "task.train.files (not set): is needed: Data files" in refusal("task.train={}")
    assert "task.train.files.0.format ('csv'): is not known" in refusal("task.train.files.0.format=csv")
    assert "task.train.people ([2]): no such key" in refusal("task.train.people=[2]")
    assert "task.name ('maths'): is not known. Did you mean math?" in refusal("task.name=maths")
    assert "task.train.files.0.format ('chat'): such rows have no worked solutions" in refusal(
        "stages.0.objective={kind: sft}", "task.train.files.0.format=chat"
    )
    read("stages.0.objective={kind: sft}")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer(512)


def test_a_run_streams_the_problems(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    stream = PromptStream(read(), tokenizer)
    first, second = stream.prompts(range(15)), stream.prompts(range(15, 30))
    assert first != second
    ids = {prompt.prompt_id for prompt in first}
    assert len(ids) == 15
    assert ids == {prompt.prompt_id for prompt in second}
    held_out = held_out_prompts(read(), tasks_of(read()))
    assert [prompt.subset for prompt in held_out] == ["held-out"] * 3


def test_a_problem_in_two_files_counts_once(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    write(folder / "c.jsonl", [chat("0", "What is 0?"), chat("99", "What is 99?")])
    stream = PromptStream(read("task.train.files=[{path: a.parquet}, {path: c.jsonl}]"), tokenizer)
    epoch = stream.prompts(range(16))
    assert len({prompt.prompt_id for prompt in epoch}) == 16
    assert [prompt.subset for prompt in epoch].count("a") == 15


def test_a_recipe_says_how_answers_are_judged() -> None:
    section = Settings.model_validate({"name": "math", "box": "only", "relative_tolerance": 0.01})
    assert section.judge().settings == {"box": "only", "relative_tolerance": 0.01}
    assert Settings().judge() == Settings.judges_alone
    strict, lenient = Math(box="only"), Math(relative_tolerance=0.01)
    several = "First \\boxed{4} was found. It is \\boxed{5}."
    assert Math().verify(several, '{"answer": "5"}').correct
    assert not strict.verify(several, '{"answer": "5"}').correct
    assert lenient.verify("\\boxed{\\frac{100}{3}}", '{"answer": "33.3"}').correct
    assert not Math().verify("\\boxed{\\frac{100}{3}}", '{"answer": "33.3"}').correct
    for wrong in ({"box": "first"}, {"relative_tolerance": -1.0}, {"tolerate": "all"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Math(**wrong)  # type: ignore[arg-type]
