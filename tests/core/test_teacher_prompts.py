"""Which teachers a prompt has, with which weight, and what a privileged one reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlad_core.config import ConfigError, RunConfig, validate
from rlad_core.prompt_checks import PromptsRefusedError, check
from rlad_core.prompt_stream import PromptStream
from rlad_core.tasks.knights_knaves import trace
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.tiny import build_tokenizer

ONE, OTHER = ({"kind": "serve", "model": f"owner/{name}"} for name in ("one", "other"))
TOKENIZER = build_tokenizer(1024)
PUZZLES = {
    "name": "knights_knaves",
    "train": {"people": [2], "count": 3},
    "evaluation": {"people": [2], "count": 2},
}


def sums(folder: Path, *rows: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """A task of sums, whose training rows have more columns."""
    for name, told in (("sums", rows), ("held", ({"problem": "What is 8 + 1 ?", "answer": "9"},))):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, told)))
    return {
        "name": "math",
        "train": {"files": [str(folder / "sums.jsonl")]},
        "evaluation": {"files": [str(folder / "held.jsonl")]},
        "columns": columns,
    }


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"problem": f"What is {number} + 1 ?", "answer": str(number + 1), **more}


def recipe(**sections: Any) -> RunConfig:
    return validate(
        {
            "name": "mixed",
            "policy": {"model": "tiny:student", "init": "random", "max_length": 512},
            "rollout": {"max_response_length": 200},
            "stages": [{"steps": 1, "objective": sections.pop("objective", {"kind": "trrd"})}],
            "task": PUZZLES,
            **sections,
        },
        "the test",
    )


def refusals(**sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        recipe(**sections)
    return "\n".join(str(problem) for problem in caught.value.problems)


def stream(config: RunConfig) -> PromptStream:
    return PromptStream(config, TOKENIZER)


def test_teachers_of_one_task_have_their_weights() -> None:
    config = recipe(teachers=[{**ONE, "weight": 3}, {**OTHER, "weight": {"knights_knaves": 0.5}}])
    shares = stream(config).taught(stream(config).prompts([0])[0])
    assert [(share.place, share.weight) for share in shares] == [("teachers.0", 3.0), ("teachers.1", 0.5)]
    assert all(share.prompt_token_ids is None for share in shares)


def test_a_column_weighs_and_nothing_leaves_a_teacher_out(tmp_path: Path) -> None:
    task = sums(tmp_path, row(1, hard=0.25), row(2, hard=0), teachers=["hard"])
    config = recipe(task=task, teachers=[{**ONE, "weight": 1}, {**OTHER, "weight_column": "hard"}])
    prompts = stream(config)
    found = {
        prompt.messages[-1]["content"].split()[2]: [share.weight for share in prompts.taught(prompt)]
        for prompt in prompts.prompts([0, 1])
    }
    assert found == {"1": [1.0, 0.25], "2": [1.0]}


def test_the_weights_of_a_csv_file_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("problem,answer,w\nWhat is 1 + 1?,2,0.5\nWhat is 2 + 1?,3,much\n")
    files = [str(tmp_path / "rows.csv")]
    task = {**sums(tmp_path, row(1), teachers=["w"]), "train": {"files": files}}
    config = recipe(task=task, teachers=[{**ONE, "weight": 1}, {**OTHER, "weight_column": "w"}])
    prompts = stream(config)
    assert [share.weight for share in prompts.taught(prompts.prompts([0])[0])] == [1.0, 0.5]
    assert [each.reason for each in check(config, TOKENIZER).dropped] == [
        "cannot be taught: its w is 'much', and a weight is a number"
    ]


def test_what_a_column_cannot_say_leaves_the_prompt_out(tmp_path: Path) -> None:
    rows = (row(1, a=1, b=1), row(2, a=0, b=0), row(3, a=-1, b=1), row(4, a="much", b=1), row(5, b=1))
    task = sums(tmp_path, *rows, teachers=["a", "b"])
    config = recipe(task=task, teachers=[{**ONE, "weight_column": "a"}, {**OTHER, "weight_column": "b"}])
    checked = check(config, TOKENIZER)
    assert checked.training == 1
    assert [dropped.reason for dropped in checked.dropped] == [
        "cannot be taught: no teacher has a weight above 0 for it",
        "cannot be taught: its a is -1, and a weight is 0 or more",
        "cannot be taught: its a is 'much', and a weight is a number",
        "cannot be taught: there is no column a; there is gold, answer, solution, b",
    ]


def test_a_column_that_is_not_kept_is_told_with_where_it_is_named(tmp_path: Path) -> None:
    task = sums(tmp_path, row(1, w=0.5))
    config = recipe(task=task, teachers=[{**ONE, "weight": 1}, {**OTHER, "weight_column": "w"}])
    with pytest.raises(PromptsRefusedError) as caught:
        check(config, TOKENIZER)
    assert caught.value.dropped[0].reason == (
        "cannot be taught: there is no column w; there is gold, answer, solution. If its file has w, write "
        "it in columns.teachers"
    )


def puzzles(folder: Path, **columns: Any) -> dict[str, Any]:
    """Two published puzzles to train on, with a column of weights."""
    rows = [
        {"quiz": prompt.messages[-1]["content"], "w": weight}
        for prompt, weight in zip(stream(recipe(teacher=ONE)).prompts([0, 1]), (0.25, 0), strict=True)
    ]
    (folder / "puzzles.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train = {"files": [str(folder / "puzzles.jsonl")]}
    return {**PUZZLES, "train": train, **({"columns": columns} if columns else {})}


def test_puzzles_of_a_file_may_have_columns_for_teachers(tmp_path: Path) -> None:
    teachers = [{**ONE, "weight": 1}, {**OTHER, "weight_column": "w"}]
    config = recipe(task=puzzles(tmp_path, teachers=["w"]), teachers=teachers)
    assert not check(config, TOKENIZER).dropped
    prompts = stream(config)
    shares = [[share.weight for share in prompts.taught(prompt)] for prompt in prompts.prompts([0, 1])]
    assert sorted(shares) == [[1.0], [1.0, 0.25]]
    with pytest.raises(PromptsRefusedError) as caught:
        check(recipe(task=puzzles(tmp_path), teachers=teachers), TOKENIZER)
    reason = caught.value.dropped[0].reason
    assert reason.endswith("If its file has w, write it in columns.teachers")


def test_puzzles_that_are_generated_have_no_columns() -> None:
    said = refusals(task={**PUZZLES, "columns": {"teachers": ["w"]}}, teacher=ONE)
    assert said == (
        'task.columns.teachers (["w"]): puzzles that are generated have no columns. Write train.files, or '
        "leave it out."
    )


def test_a_privileged_teacher_reads_the_solution_before_the_question() -> None:
    config = recipe(teacher={**ONE, "prefix": "{solution} "})
    prompts = stream(config)
    [prompt] = prompts.prompts([0])
    [share] = prompts.taught(prompt)
    system, user = prompt.messages
    solution = trace.demonstration(Puzzle.from_gold(prompt.gold))
    told = [system, {"role": "user", "content": f"{solution} {user['content']}"}]
    assert share.prompt_token_ids == tuple(config.policy.chat.ids(TOKENIZER, told))
    # The policy's own prompt is what it was.
    asked = prompts.table([prompt]).column("prompt_token_ids").to_pylist()[0]
    assert asked == config.policy.chat.ids(TOKENIZER, prompt.messages)


def test_a_prefix_may_hold_columns_numbers_and_braces(tmp_path: Path) -> None:
    task = sums(tmp_path, row(1, hint={"text": "count"}, tries=2), teachers=["hint.text", "tries"])
    config = recipe(task=task, teacher={**ONE, "prefix": "{{{hint.text}}} {tries} {answer}: "})
    text = PromptStream(config, TOKENIZER)
    [prompt] = text.prompts([0])
    [share] = text.taught(prompt)
    messages = [dict(message) for message in prompt.messages]
    messages[-1]["content"] = "{count} 2 2: " + messages[-1]["content"]
    assert share.prompt_token_ids == tuple(config.policy.chat.ids(TOKENIZER, messages))


def test_a_prefix_longer_than_its_room_or_without_a_value_leaves_the_prompt_out(tmp_path: Path) -> None:
    task = sums(tmp_path, row(1, hint="1"), row(2, hint="1 + " * 9), row(3), teachers=["hint"])
    config = recipe(task=task, teacher={**ONE, "prefix": "{hint} ", "prefix_tokens": 10})
    checked = check(config, TOKENIZER)
    assert checked.training == 1
    long, without = (dropped.reason for dropped in checked.dropped)
    assert long.startswith("cannot be taught: has ")
    assert long.endswith("tokens more with teacher.prefix, and teacher.prefix_tokens is 10")
    assert without.startswith("cannot be taught: there is no column hint")


TWO = [{**ONE, "weight": 1}, {**OTHER, "weight": 2}]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no weight": (
        {"teachers": [ONE, {**OTHER, "weight": 2}]},
        "teachers.0 teaches knights_knaves already. Say in tasks which teacher teaches which, or give each a "
        "weight",
    ),
    "alone": ({"teacher": {**ONE, "weight": 2}}, "it alone teaches its tasks"),
    "both": (
        {"teachers": [{**ONE, "weight": 1, "weight_column": "w"}, {**OTHER, "weight": 2}]},
        "weight is there too",
    ),
    "another task": (
        {"teachers": [{**ONE, "weight": {"math": 1}}, {**OTHER, "weight": 2}]},
        "is no task of this recipe",
    ),
    "no weight for the task": (
        {"teachers": [{**ONE, "weight": {"math": 1}}, {**OTHER, "weight": 2}]},
        "has none for knights_knaves",
    ),
    "normalised anchor": (
        {"teachers": TWO, "objective": {"kind": "trrd", "anchor": "normalised"}},
        "likeliest tokens, which are others with each teacher, and teachers.0 and teachers.1 teach "
        "knights_knaves. Take one teacher a task",
    ),
    "the teacher's top-k": (
        {"teachers": TWO, "objective": {"kind": "gkd", "top_k": 8, "top_of": "teacher"}},
        "likeliest tokens, which are others with each teacher",
    ),
    "no distribution": (
        {
            "teachers": TWO,
            "mixture": "logprobs",
            "objective": {"kind": "gkd", "top_k": 8, "top_of": "policy"},
        },
        "is no distribution",
    ),
    "one teacher": ({"teacher": ONE, "mixture": "logprobs"}, "no task has several teachers"),
    "a demonstrator": (
        {"teacher": {**ONE, "prefix": "{solution}"}, "objective": {"kind": "sft", "source": "teacher"}},
        "a stage has it write responses",
    ),
    "cut prompts": (
        {
            "teacher": {**ONE, "prefix": "{solution}"},
            "policy": {
                "model": "tiny:student",
                "init": "random",
                "max_length": 512,
                "longer_prompts": "truncate_left",
            },
        },
        "truncate_left cuts there",
    ),
    "room for nothing": ({"teacher": {**ONE, "prefix_tokens": 9}}, "there is no prefix"),
    "a lone brace": ({"teacher": {**ONE, "prefix": "{solution"}}, "Write {{ and }}"),
    "no name": ({"teacher": {**ONE, "prefix": "{0!r}"}}, "in braces stands a name"),
    "a small batch": (
        {"teacher": {**ONE, "prefix": "{solution}", "max_tokens_per_batch": 600}},
        "policy.max_length 512 and teacher.prefix_tokens 512) would not fit. Write 1024",
    ),
    "a reference": (
        {
            "teacher": ONE,
            "reference": {**OTHER, "prefix": "{solution}"},
            "objective": {"kind": "trrd", "reference_kl": 0.1},
        },
        "reference.prefix",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str) -> None:
    sections, said = REFUSED[name]
    assert said in refusals(**sections)


def test_tokens_of_the_policy_are_mixed() -> None:
    objective = {"kind": "gkd", "top_k": 8, "top_of": "policy"}
    assert recipe(teachers=TWO, objective=objective).mixture == "probabilities"
