"""Math problems are drawn from files, asked for and demonstrated; recipes name the files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from math_rows import GSM8K, MATH, chat, write
from transformers import PreTrainedTokenizerBase

from rlad_core.config import ConfigError, RunConfig, dump, parse, validate
from rlad_core.prompt_stream import PromptStream, held_out_prompts, tasks_of
from rlad_core.tasks import Part, Task
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from rlad_core.tasks.knights_knaves.tiny import build_tokenizer
from rlad_core.tasks.math.published import Format, ProblemReader
from rlad_core.tasks.math.settings import Settings
from rlad_core.tasks.math.task import Math, ProblemSource
from rlad_core.tasks.math.verifier import verify


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


def test_a_folder_whose_name_is_no_utf8_is_to_be_renamed(
    source: Math, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name reaches Python as half characters, which no recipe and no table can hold."""
    odd = tmp_path / os.fsdecode(b"b\xfccher")
    odd.mkdir()
    for name in ("a.parquet", "b.jsonl"):
        (tmp_path / name).rename(odd / name)
    (odd / "method.py").write_text("from rlad_core.objectives.grpo import GRPO as Mine\n")
    monkeypatch.chdir(odd)
    said = refusal("stages.0.objective.kind=method.py:Mine")  # code there is no stumbling block
    assert "- task.train.files.0.path ('/" in said
    assert said.count("has bytes that are no UTF-8. Write a text without them; of a file, rename it or") == 2


def test_each_file_may_call_its_columns_otherwise(folder: Path) -> None:
    (folder / "c.jsonl").write_text('{"q": "Two?", "a": 2}')
    (folder / "d.csv").write_text("frage,antwort\nThree?,3\n")
    config = read(
        "task.train.files=[c.jsonl, {path: d.csv, columns: {prompt: frage, gold: antwort}}]",
        "task.columns={prompt: q, gold: a}",
        "task.evaluation.files=[c.jsonl]",
    )
    task = config.task.task()
    assert ["Two?" in prompt.messages[-1]["content"] for prompt in task.prompts("train", "c", None, 0)] == [
        True
    ]
    (other,) = task.prompts("train", "d", None, 0)
    assert "Three?" in other.messages[-1]["content"]
    assert '"answer": "3"' in other.gold
    assert "task.train.files.0.columns.q (1): no such key" in refusal(
        "task.train.files=[{path: c.jsonl, columns: {q: 1}}]"
    )
    assert "there is no column x; there is q, a" in refusal(
        "task.train.files=[{path: c.jsonl, columns: {prompt: x}}]"
    )


def test_wrong_data_files_are_refused(folder: Path) -> None:
    said = refusal("task.train.files=[{path: none.parquet}]")
    assert "- task.train.files.0.path ('/" in said
    assert "/none.parquet'): there is no such file" in said
    (folder / "a.txt").touch()
    assert "is no data file. Write one that ends in .jsonl, " in refusal("task.train.files=[a.txt]")
    (folder / "c.jsonl").write_text('{"q": 1, "a": 2}')
    columns = "there is no column prompt, question, problem, query or instruction; there is q, a. Name yours"
    assert columns in refusal("task.train.files=[c.jsonl]")
    read("task.train.files=[c.jsonl]", "task.columns={prompt: q, gold: a}", "task.evaluation.files=[c.jsonl]")
    assert "task.columns.question ('q'): no such key" in refusal("task.columns={question: q}")
    for encoding in ("utf-9", "base64", "undefined"):  # the latter two are known, and of no text
        assert f"task.train.files.0.encoding ('{encoding}'): is no encoding" in refusal(
            f"task.train.files.0.encoding={encoding}"
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
