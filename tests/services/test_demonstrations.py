"""What is kept of a teacher's responses, and that both our own tasks and others can read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rlad_command import Said

from rlad_core.config import load
from rlad_core.evaluation import ANSWERS
from rlad_core.prompt_checks import PromptsRefusedError, parts_of, read_parts
from rlad_core.prompt_stream import tasks_of
from rlad_core.tasks import Asked, Prompt
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from services.cli.evaluation_questions import Asking, read_questions
from services.evaluate.demonstrations import CHATS, harvest, write

PROMPTS = {
    name: Prompt(name, "math", "sums", [{"role": "user", "content": f"What is {name}?"}], gold, answer=answer)
    for name, gold, answer in (
        ("1+1", '{"answer": "2"}', "2"),
        ("2+2", '"4"', None),
        ("3+3", '{"x": 1}', None),
    )
}


def answer(
    prompt: str, sample: int, response: str, *, correct: bool = True, opened: str = ""
) -> dict[str, Any]:
    return {
        "prompt_id": prompt, "task": "math", "subset": "sums", "sample_index": sample, "prompt": "",
        "gold": "", "opened": opened, "response": response, "finish_reason": "stop", "tokens": 1,
        "reward": float(correct), "reward_parts": {}, "correct": correct, "verdict": "",
        "fault": "", "response_token_ids": None, "rollout_logprobs": None,
    }  # fmt: skip


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=ANSWERS)


TRIES = table(
    answer("1+1", 1, r"So \boxed{2}."),
    answer("1+1", 0, r"It is \boxed{2}."),
    answer("1+1", 2, r"It is \boxed{2}. "),  # the same but for white space at its end
    answer("2+2", 0, r"\boxed{5}", correct=False),
    answer("2+2", 1, r"\boxed{4}", opened="<think>\n"),
    answer("3+3", 0, "I don't know.", correct=False),
)


def test_accepted_responses_are_kept_once_in_the_order_of_the_tries() -> None:
    chats, found = harvest(TRIES, PROMPTS, "big", None)
    assert (found.prompts, found.responses, found.accepted) == (3, 6, 4)
    assert (found.doubled, found.kept, found.without) == (1, 3, 1)
    assert [(row["prompt_id"], row["solution"]) for row in chats.to_pylist()] == [
        ("1+1", r"It is \boxed{2}."), ("1+1", r"So \boxed{2}."), ("2+2", "<think>\n\\boxed{4}"),
    ]  # fmt: skip
    first = chats.to_pylist()[0]
    assert first["messages"] == [
        {"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": r"It is \boxed{2}."},
    ]  # fmt: skip
    assert (
        first["prompt"] + first["completion"] == first["messages"]
    )  # as TRL's SFTTrainer puts them together
    assert len(first["prompt"]) == len(first["completion"]) == 1
    assert [row["answer"] for row in chats.to_pylist()] == ["2", "2", "4"]
    assert harvest(TRIES, PROMPTS, "big", 1)[0].num_rows == 2


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("Paris", "Paris"), ("007", "007"), ("5.10", "5.10"), ("1e400", "1e400"), ("[open", "[open"),
        ("", ""), ('"a text"', "a text"), ('{"answer": 3}', "3"), ('{"x": 1}', None), ("[1, 2]", None),
        ("null", None),
    ],
)  # fmt: skip
def test_a_gold_is_the_answer_as_it_is_written(gold: str, said: str | None) -> None:
    prompts = {"q": Prompt("q", "prompts", "own", [{"role": "user", "content": "?"}], gold)}
    chats, _ = harvest(table(answer("q", 0, "It is so.")), prompts, "big", None)
    assert [(row["answer"], row["gold_json"]) for row in chats.to_pylist()] == [(said, gold)]


def test_what_was_cut_off_is_no_whole_turn() -> None:
    rows = [answer("1+1", 0, r"\boxed{2}, since"), answer("1+1", 1, r"\boxed{2}")]
    rows[0]["finish_reason"] = "length"
    chats, found = harvest(table(*rows), PROMPTS, "big", 1)
    assert [row["solution"] for row in chats.to_pylist()] == [r"\boxed{2}"]
    assert (found.accepted, found.cut_off, found.kept) == (1, 1, 1)


def test_nothing_accepted_is_an_empty_table() -> None:
    chats, found = harvest(table(answer("1+1", 0, "no", correct=False)), PROMPTS, "big", 1)
    assert (chats.num_rows, chats.schema, found.without) == (0, CHATS, 1)


def test_the_math_task_trains_on_the_file(tmp_path: Path) -> None:
    write(harvest(TRIES, PROMPTS, "big", None)[0], tmp_path / "teacher.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["teacher.parquet"]
    files = f"{{files: [{{path: {tmp_path / 'teacher.parquet'}}}]}}"
    config = load(
        "kk-tiny-trrd",
        [
            f"task={{name: math, train: {files}, evaluation: {files}}}",
            "stages=[{steps: 1, objective: {kind: sft, source: trace}}]",
            "teacher=null", "learner.warmup_steps=0",
        ],
    )  # fmt: skip
    tasks = tasks_of(config)
    found = read_parts(parts_of(config, "training"), "training", tasks)
    assert not found.dropped
    asked = {prompt.messages[-1]["content"].splitlines()[0] for prompt in found.prompts}
    assert asked == {"What is 1+1?", "What is 2+2?"}
    solutions = {tasks["math"].demonstration(prompt.gold) for prompt in found.prompts}
    assert solutions == {r"It is \boxed{2}.", "<think>\n\\boxed{4}"}


def test_puzzles_are_trained_on_as_the_teacher_solved_them(tmp_path: Path) -> None:
    puzzles = KnightsKnaves().prompts("train", "2_people", 2, 1)
    ends = [f"<answer> {Puzzle.from_gold(each.gold).solution_text} </answer>" for each in puzzles]
    said = [f"<think> Seen at a glance. </think> {end}" for end in ends]
    rows = [answer(each.prompt_id, 0, text) for each, text in zip(puzzles, said, strict=True)]
    write(
        harvest(table(*rows), {each.prompt_id: each for each in puzzles}, "big", 1)[0], tmp_path / "t.parquet"
    )
    config = load("kk-tiny-sft", [f"task.train={{files: [{tmp_path / 't.parquet'}]}}"])
    tasks = tasks_of(config)
    found = read_parts(parts_of(config, "training"), "training", tasks)
    assert [each.messages for each in found.prompts] == [each.messages for each in puzzles]
    task = tasks["knights_knaves"]
    assert [task.demonstration(each.gold) for each in found.prompts] == said
    assert all(task.verify(text, each.gold).correct for each, text in zip(found.prompts, said, strict=True))
    assert "Cases:" in task.demonstration(puzzles[0].gold)  # without one, its own


def test_a_chat_is_what_other_libraries_expect(tmp_path: Path) -> None:
    write(harvest(TRIES, PROMPTS, "big", None)[0], tmp_path / "teacher.parquet")
    [first, *_] = pq.read_table(tmp_path / "teacher.parquet")["messages"].to_pylist()
    assert [sorted(message) for message in first] == [["content", "role"]] * 2


def test_wrong_usage_is_refused_before_anything_starts(rlad: Callable[..., Said], tmp_path: Path) -> None:
    neither = rlad("generate", "kk-tiny-sft")
    assert neither.code == 2
    assert "write a model" in neither.err
    both = rlad("generate", "kk-tiny-sft", "m", "--endpoint", "http://127.0.0.1:1/v1", "--model", "x")
    assert both.code == 2
    assert "one of the two" in both.err
    equal = rlad("generate", "kk-tiny-sft", "rlad:kk-teacher", "--tries", "4", "--temperature", "0")
    assert equal.code == 2
    assert "write --tries 1, or a" in equal.err
    folder = rlad("generate", "kk-tiny-sft", "rlad:kk-teacher", "--out", str(tmp_path))
    assert folder.code == 2
    assert "is a folder. Write a file" in folder.err
    assert "no folder" in rlad("generate", "kk-tiny-sft", "rlad:kk-teacher", "--out", "nowhere/x.parquet").err
    assert "there is no such file" in rlad("generate", "kk-tny", "rlad:kk-teacher").err


def test_the_data_of_the_recipe_is_not_written_over(rlad: Callable[..., Said], tmp_path: Path) -> None:
    for name, number in (("train", 1), ("held", 2)):
        rows = pa.table({"question": [f"What is {number} + {number}?"], "answer": [str(2 * number)]})
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    parts = {"train": "tr*.parquet", "evaluation": "held.parquet"}
    task = {"name": "math", **{part: {"files": [str(tmp_path / file)]} for part, file in parts.items()}}
    recipe = load("kk-tiny-grpo", [f"task={json.dumps(task)}"]).model_dump(mode="json")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    for name in ("train", "held"):
        out = tmp_path / f"{name}.parquet"
        before = out.read_bytes()
        said = rlad("generate", str(tmp_path / "mine.yaml"), "rlad:kk-teacher", "--out", str(out))
        assert said.code == 2
        assert "the recipe's own prompts are read from it" in said.err
        assert out.read_bytes() == before


@pytest.mark.parametrize("overlap", ["drop", "keep", "refuse", "all"])
def test_what_is_held_out_is_asked_only_where_a_run_would_train_on_it(tmp_path: Path, overlap: str) -> None:
    for name, numbers in (("train", (1, 2, 2, 3)), ("held", (1, 2, 3) if overlap == "all" else (3, 4))):
        rows = [json.dumps({"question": f"What is {n} + {n}?", "answer": str(2 * n)}) for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    task = {
        "name": "math",
        "train": {"files": [str(tmp_path / "train.jsonl")]},
        "evaluation": {"files": [str(tmp_path / "held.jsonl")]},
    }
    recipe = load("kk-tiny-grpo", [f"task={json.dumps(task)}"])
    values = recipe.model_dump(mode="json") | {"name": "mine"}
    values["evaluation"]["overlap"] = "drop" if overlap == "all" else overlap
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    asking = Asking(
        task=str(tmp_path / "mine.yaml"), suites=[], data=Path(), asked=Asked(), models=(),
        endpoint="http://127.0.0.1:1", names=("big",), samples=1, temperature=1.0, top_p=1.0, max_length=None,
        max_response_length=None, seed=0, engine=(), part="training",
    )  # fmt: skip
    if overlap in ("refuse", "all"):
        said = "1 prompt.* the recipe says" if overlap == "refuse" else "3 prompts, which is all there is"
        with pytest.raises(PromptsRefusedError, match=f"trained on and held out: {said}"):
            read_questions(asking)
        return
    read = read_questions(asking)
    asked = [prompt.messages[-1]["content"].split("?")[0] for prompt in read.prompts]
    assert asked == ["What is 1 + 1", "What is 2 + 2", "What is 3 + 3"][: 3 if overlap == "keep" else 2]
    assert [each.reason.partition(",")[0] for each in read.dropped] == (
        [] if overlap == "keep" else ["is held out too"]
    )
