"""What a run's prompts are checked for before it starts, and that a resumed run uses the same ones."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from rlad_core.config import ConfigError, RunConfig, validate
from rlad_core.prompt_checks import (
    DROPPED,
    Checked,
    Dropped,
    PromptsRefusedError,
    check,
    nothing_left,
    read_record,
    write_record,
)
from rlad_core.prompt_stream import PromptStream, held_out_prompts, tasks_of, training_prompts
from rlad_core.tasks.knights_knaves.tiny import build_tokenizer
from rlad_core.tasks.math.published import MathProblem
from rlad_core.tasks.math.task import prompt_for


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer(1024)


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def ask(number: int, answer: Any = 1, words: int = 0) -> dict[str, Any]:
    return {"question": f"{'1 ' * words}{number}?", "answer": answer}


def recipe(folder: Path, train: list[str], held: list[str] | None = None, **more: Any) -> RunConfig:
    lines(folder / "held.jsonl", ask(900), ask(901))
    policy = {"model": "tiny:student", "init": "random", "max_length": 144} | more.pop("policy", {})
    values: dict[str, Any] = {
        "name": "checked",
        "policy": policy,
        "task": {
            "name": "math",
            "train": {"files": [str(folder / name) for name in train]},
            "evaluation": {"files": [str(folder / name) for name in held or ["held.jsonl"]]},
        },
        "rollout": {"max_response_length": 16},
        "stages": [{"steps": 3, "objective": {"kind": "grpo"}}],
    }
    return validate(values | more, "the test")


def reasons(checked: Checked) -> list[str]:
    return [f"{Path(each.where).name}: {each.reason}" for each in checked.dropped]


def test_what_cannot_be_used_is_left_out_and_named(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    lines(
        tmp_path / "train.jsonl",
        ask(1),
        ask(2, words=300),
        '{"question": "\\ud83d", "answer": 1}',
        ask(3, float("nan")),
        ask(4, None),
        ask(5, 27.0),
        ask(5, "27"),
        ask(6, 1),
        ask(6, 2),
        '{"question": ',
        {"question": [{"role": "user", "content": " "}], "answer": 1},
    )
    told: list[tuple[str, int, int]] = []
    checked = check(recipe(tmp_path, ["train.jsonl"]), tokenizer, lambda *at: told.append(at))
    assert (checked.training, checked.held_out) == (2, 2)
    assert [reason.partition(",")[2].partition(": ")[::2] for reason in reasons(checked)] == [
        (" line 3", "the prompt holds half a character (a lone surrogate)"),
        (" line 4", "the answer is nan, which is no finite number"),
        (" line 5", "nothing in column answer; there is question, answer"),
        (" line 10", "is no JSON: Expecting value at character 15"),
        (" line 11", "the last message of the prompt is empty, or the assistant's own"),
        (" line 8", "asks the same as line 9 with another answer: 1 and 2"),
        (" line 9", "asks the same as line 8 with another answer: 2 and 1"),
        (
            " line 2",
            "has 318 tokens, and policy.max_length is 144, and a response has one token at least",
        ),
    ]
    assert told[0] == ("reading training data", 0, 1)
    assert told[-1] == ("tokenizing evaluation prompts", 2, 2)
    # What the stream asks is what was counted, and nothing of it raises.
    stream = PromptStream(recipe(tmp_path, ["train.jsonl"]), tokenizer, checked.selection)
    asked = stream.prompts(range(2))
    assert {prompt.where.rpartition(" ")[2] for prompt in asked} == {"1", "6"}
    assert max(map(len, stream.table(asked)["prompt_token_ids"].to_pylist())) <= checked.longest


def test_strict_refuses_all_of_it(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    lines(tmp_path / "train.jsonl", ask(1), ask(2, None), ask(3, None))
    with pytest.raises(PromptsRefusedError, match=r"2 prompts cannot be used, .* strict: true") as refused:
        check(recipe(tmp_path, ["train.jsonl"], strict=True), tokenizer)
    assert len(refused.value.dropped) == 2
    again = pickle.loads(pickle.dumps(refused.value))
    assert (str(again), again.dropped) == (str(refused.value), refused.value.dropped)


def test_the_limit_of_a_prompt_is_exact(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    lines(tmp_path / "train.jsonl", ask(1), ask(1, words=50))
    length = check(recipe(tmp_path, ["train.jsonl"]), tokenizer).longest
    for policy, kept in (
        ({"max_prompt_length": length}, 2),
        ({"max_prompt_length": length - 1}, 1),
        ({"max_length": length + 1}, 2),  # with the first token of a response
        ({"max_length": length}, 1),
        ({"max_length": length, "max_prompt_length": length - 1}, 1),
    ):
        checked = check(recipe(tmp_path, ["train.jsonl"], policy=policy), tokenizer)
        assert checked.training == kept
        assert all(f"has {length} tokens" in reason for reason in reasons(checked))
    with pytest.raises(ConfigError, match=r"max_prompt_length \(144\): leaves no room for a response"):
        recipe(tmp_path, ["train.jsonl"], policy={"max_prompt_length": 144})


def test_longer_prompts_are_dropped_cut_or_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    lines(tmp_path / "train.jsonl", ask(1), ask(2, words=300))
    assert check(recipe(tmp_path, ["train.jsonl"]), tokenizer).training == 1
    cut = recipe(
        tmp_path, ["train.jsonl"], policy={"longer_prompts": "truncate_left", "max_prompt_length": 60}
    )
    checked = check(cut, tokenizer)
    assert (checked.training, checked.shortened, checked.longest) == (2, 1, 60)
    assert checked.selection.limit == 60
    stream = PromptStream(cut, tokenizer, checked.selection)
    assert max(map(len, stream.table(stream.prompts(range(2)))["prompt_token_ids"].to_pylist())) == 60
    with pytest.raises(PromptsRefusedError, match=r"too long: 1 prompt, .*longer_prompts: refuse"):
        check(recipe(tmp_path, ["train.jsonl"], policy={"longer_prompts": "refuse"}), tokenizer)


def test_prompts_with_words_that_the_policy_does_not_know_are_counted(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """They read alike to the policy: its tokenizer has one token for all such words."""
    puzzles = {
        "name": "knights_knaves",
        "train": {"people": [2], "count": 20},
        "evaluation": {"people": [3], "count": 10, "perturbations": ["uncommon_name", "reorder_statement"]},
    }
    checked = check(recipe(tmp_path, ["unused"], task=puzzles), tokenizer)
    assert (checked.training, checked.held_out, checked.unknown) == (20, 30, 10)
    write_record(checked, tmp_path)
    assert read_record(tmp_path) == checked
    lines(tmp_path / "train.jsonl", ask(1), ask(2))
    assert check(recipe(tmp_path, ["train.jsonl"]), tokenizer).unknown == 4  # of mathematics it knows nothing


def test_a_template_that_nothing_fits_into_leaves_nothing(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    lines(tmp_path / "train.jsonl", ask(1), ask(2))
    for longer in ("drop", "truncate_left"):
        policy = {"longer_prompts": longer, "max_prompt_length": 2}
        with pytest.raises(PromptsRefusedError, match="no prompt can be used of: training") as refused:
            check(recipe(tmp_path, ["train.jsonl"], policy=policy), tokenizer)
        assert len(refused.value.dropped) == 4


def test_what_is_held_out_is_not_trained_on(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    # Also where only white space, case or the form differ.
    same = {"prompt": [{"role": "user", "content": "  900? "}], "answer": 1}
    lines(tmp_path / "train.jsonl", ask(1), same, ask(901), ask(2))
    checked = check(recipe(tmp_path, ["train.jsonl"]), tokenizer)
    assert (checked.training, checked.held_out) == (2, 2)
    assert [each.reason for each in checked.dropped] == [
        f"is held out too, in held ({tmp_path}/held.jsonl, line 1)",
        f"is held out too, in held ({tmp_path}/held.jsonl, line 2)",
    ]
    config = recipe(tmp_path, ["train.jsonl"])
    held = held_out_prompts(config, tasks_of(config), checked.selection)
    assert len(held) == 2
    with pytest.raises(PromptsRefusedError, match="trained on and held out: 2 prompts, "):
        check(recipe(tmp_path, ["train.jsonl"], evaluation={"overlap": "refuse"}), tokenizer)
    kept = check(recipe(tmp_path, ["train.jsonl"], evaluation={"overlap": "keep"}), tokenizer)
    assert (kept.training, kept.dropped) == (4, [])
    with pytest.raises(PromptsRefusedError, match="no prompt can be used of: training"):
        check(recipe(tmp_path, ["held.jsonl"]), tokenizer)


def test_files_that_contradict_each_other(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    lines(tmp_path / "a.jsonl", ask(1), ask(2), ask(3))
    lines(tmp_path / "b.jsonl", ask(1, 1.0), ask(2, 5), ask(4))
    checked = check(recipe(tmp_path, ["a.jsonl", "b.jsonl"]), tokenizer)
    assert checked.training == 3
    assert reasons(checked) == [
        f"a.jsonl, line 2: asks the same as {tmp_path}/b.jsonl, line 2 with another answer: 1 and 5",
        f"b.jsonl, line 2: asks the same as {tmp_path}/a.jsonl, line 2 with another answer: 5 and 1",
    ]


def test_a_part_of_which_nothing_is_left_is_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    lines(tmp_path / "a.jsonl", ask(1), ask(2))
    lines(tmp_path / "b.jsonl", ask(3, None), ask(4, None))
    with pytest.raises(PromptsRefusedError, match="no prompt can be used of: training math, b") as refused:
        check(recipe(tmp_path, ["a.jsonl", "b.jsonl"]), tokenizer)
    assert len(refused.value.dropped) == 2
    lines(tmp_path / "long.jsonl", ask(5, words=300))
    with pytest.raises(PromptsRefusedError, match="no prompt can be used of: evaluation math, long"):
        check(recipe(tmp_path, ["a.jsonl"], ["held.jsonl", "long.jsonl"]), tokenizer)


def test_worked_solutions_must_be_there_and_fit(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    lines(
        tmp_path / "train.jsonl",
        {"question": "1?", "answer": "so\n#### 1"},
        {"question": "2?", "answer": "2 " * 200 + "\n#### 2"},
        {"question": "3?", "answer": "3"},
    )
    config = recipe(tmp_path, ["train.jsonl"], stages=[{"steps": 1, "objective": {"kind": "sft"}}])
    checked = check(config, tokenizer)
    assert checked.training == 1
    long, unsolved = reasons(checked)
    assert "line 2: has" in long
    assert long.endswith("tokens with its worked solution, and policy.max_length is 144")
    assert "line 3: has no worked solution: the data has no worked solution for this problem" in unsolved
    stream = PromptStream(config, tokenizer, checked.selection)
    assert len(stream.demonstrations(stream.prompts([0, 1]), ["a", "b"])) == 2


def test_a_prompt_with_several_worked_solutions_has_another_each_epoch(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Of rows of one file, and of two. That the first does not fit is no reason to do without the prompt."""
    lines(
        tmp_path / "a.jsonl",
        {"question": "1?", "answer": "1 " * 200 + "\n#### 1"},
        {"question": "1?", "answer": "1\n#### 1"},
        {"question": "1?", "answer": "1\n#### 1"},
        {"question": "2?", "answer": "2\n#### 2"},
    )
    lines(tmp_path / "b.jsonl", {"question": "1?", "answer": "1 1\n#### 1"})
    sft = [{"steps": 1, "objective": {"kind": "sft"}}]
    config = recipe(tmp_path, ["a.jsonl", "b.jsonl"], stages=sft)
    checked = check(config, tokenizer)
    assert (checked.training, reasons(checked)) == (2, [])
    [unfit] = checked.unfit
    assert "tokens with its worked solution, and policy.max_length is 144" in unfit.reason

    write_record(checked, tmp_path)
    again = read_record(tmp_path)
    assert again is not None
    assert (again.selection, again.unfit) == (checked.selection, checked.unfit)
    assert check(config, tokenizer, earlier=again).solutions == checked.solutions
    raised = config.model_copy(update={"policy": config.policy.model_copy(update={"max_length": 4096})})
    assert check(raised, tokenizer, earlier=again).solutions == checked.solutions

    stream = PromptStream(config, tokenizer, again.selection)
    said: dict[str, list[int]] = {}
    for position in range(8):
        [prompt] = stream.prompts([position])
        epoch = position // stream.epoch_prompts
        [row] = stream.demonstrations([prompt], ["a"], [epoch]).to_pylist()
        said.setdefault(prompt.messages[-1]["content"][:2], []).append(len(row["response_token_ids"]))
    one, two = said["2?"][0], said["1?"][1]
    assert said == {"1?": [one, two, one, two], "2?": [one] * 4}
    assert one < two

    lines(tmp_path / "b.jsonl", {"question": "1?", "answer": "1 1 1\n#### 1"})
    with pytest.raises(PromptsRefusedError, match="the data have changed"):
        check(config, tokenizer, earlier=again)
    sampled = recipe(tmp_path, ["a.jsonl", "b.jsonl"])
    assert check(sampled, tokenizer).digest == checked.digest
    assert check(sampled, tokenizer).solutions == ""


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", ask(1))
    silent = build_tokenizer(1024)
    silent.chat_template = None
    with pytest.raises(PromptsRefusedError, match="has no chat template"):
        check(recipe(tmp_path, ["train.jsonl"]), silent)


def test_a_chat_that_the_template_refuses_is_left_out(tmp_path: Path) -> None:
    picky = build_tokenizer(1024)
    picky.chat_template = (
        "{% for m in messages %}{% if '7' in m.content %}{{ raise_exception('no sevens') }}{% endif %}"
        "<|user|>{{ m.content }}{% endfor %}<|assistant|>"
    )
    lines(tmp_path / "train.jsonl", ask(1), ask(7), ask(8))
    checked = check(recipe(tmp_path, ["train.jsonl"]), picky)
    assert checked.training == 2
    assert reasons(checked) == [
        "train.jsonl, line 2: the tokenizer or its chat template refuses it: no sevens"
    ]


USERS = """
from rlad_core.tasks import Prompt, Task, Verdict

class Mine(Task):
    def prompts(self, split, subset, count, seed):
        good = [self.prompt(f"{split} {n}?", str(n)) for n in range(3)]
        if split == "test":
            return good
        empty, odd = self.prompt(" ", "1"), self.prompt("\\ud83d", "1")
        wrong = Prompt("x" * 32, "Mine", "all", [{"role": "user"}], "1")
        return [*good, empty, odd, wrong, self.prompt("a", "1"), self.prompt("a", "2"), FIFTH]

    def verify(self, response, gold):
        return Verdict(1.0, {}, True, "")
"""


def test_a_users_own_task_is_checked_alike(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    (tmp_path / "mine.py").write_text(USERS.replace("FIFTH", "self.prompt('b', chr(0xdc80))"))
    config = recipe(tmp_path, ["held.jsonl"], task={"name": f"{tmp_path}/mine.py:Mine"})
    checked = check(config, tokenizer)
    assert (checked.training, checked.held_out) == (3, 3)
    assert [each.reason for each in checked.dropped] == [
        "has an empty last message",
        "holds half a character (a lone surrogate)",
        "has a message without role and content that are texts: {'role': 'user'}",
        "holds half a character (a lone surrogate)",
        f"asks the same as {checked.dropped[4].where} with another answer: 1 and 2",
        f"asks the same as {checked.dropped[4].where} with another answer: 2 and 1",
    ]
    (tmp_path / "bad.py").write_text(USERS.replace("FIFTH", "1 / 0"))
    with pytest.raises(PromptsRefusedError, match=r"ZeroDivisionError.* \(bad\.py, line 11\)"):
        check(recipe(tmp_path, ["held.jsonl"], task={"name": f"{tmp_path}/bad.py:Mine"}), tokenizer)


def test_other_prompts_may_be_evaluated_than_the_recipes(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    lines(tmp_path / "train.jsonl", ask(1), ask(2))
    config = recipe(tmp_path, ["train.jsonl"])
    long, same, odd = (
        prompt_for(MathProblem([{"role": "user", "content": text}], "1"), "suite", "suite.json, row 1")
        for text in ("1 " * 300, config_text(config), " ")
    )
    checked = check(config, tokenizer, held_out=[long, same, odd])
    assert (checked.training, checked.held_out) == (1, 1)
    assert checked.selection.held_out == {long.prompt_id, odd.prompt_id}
    assert {each.where for each in checked.dropped if each.use == "evaluation"} == {"suite.json, row 1"}
    why = r"\. Why, 1 times of 1: suite\.json, row 1: has \d+ tokens, and policy\.max_length is"
    for use in ("evaluation", "training"):
        with pytest.raises(PromptsRefusedError, match=f"can be used of: {use} math, suite{why}") as refused:
            check(config, tokenizer, held_out=[long], use=use)
        assert {each.use for each in refused.value.dropped} == {use}


def test_where_nothing_is_left_the_reason_that_most_prompts_have_is_told() -> None:
    tokens = [Dropped(f"a, row {n}", "training", "a", f"has {n} tokens, and 8 is all") for n in (9, 12, 31)]
    odd = Dropped("a, row 1", "training", "a", "has no messages")
    said = str(nothing_left(["training math, a"] * 2, [odd, *tokens]))
    assert said == (
        "no prompt can be used of: training math, a. Why, 3 times of 4: a, row 9: has 9 tokens, and 8 is all"
    )
    assert str(nothing_left(["training math, a"], [])) == "no prompt can be used of: training math, a"


def config_text(config: RunConfig) -> str:
    """What the first prompt of a recipe asks."""
    return training_prompts(config, tasks_of(config))[0].messages[0]["content"]


# A run that is resumed


def test_a_resumed_run_uses_the_same_prompts(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    lines(tmp_path / "train.jsonl", ask(1), ask(2, words=300), ask(3, None), ask(4, words=150), ask(900))
    first = check(recipe(tmp_path, ["train.jsonl"]), tokenizer)
    assert read_record(tmp_path) is None
    write_record(first, tmp_path)
    earlier = read_record(tmp_path)
    assert earlier == first
    assert len((tmp_path / DROPPED).read_text().splitlines()) == 4
    # Longer limits let nothing in that was left out: the order of the stream would be another.
    longer = recipe(tmp_path, ["train.jsonl"], policy={"max_length": 400})
    assert check(longer, tokenizer).training == 3
    again = check(longer, tokenizer, earlier=earlier)
    assert (again.selection, again.digest, again.training) == (first.selection, first.digest, 1)
    streams = [
        PromptStream(config, tokenizer, each.selection)
        for config, each in ((recipe(tmp_path, ["train.jsonl"]), first), (longer, again))
    ]
    orders = [[prompt.prompt_id for prompt in stream.prompts(range(10))] for stream in streams]
    assert orders[0] == orders[1]


def test_a_prompt_that_was_cut_stays_cut_as_it_was(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    lines(tmp_path / "train.jsonl", ask(1), ask(2, words=300))
    cut = {"longer_prompts": "truncate_left", "max_prompt_length": 60}
    first = check(recipe(tmp_path, ["train.jsonl"], policy=cut), tokenizer)
    write_record(first, tmp_path)
    raised = recipe(tmp_path, ["train.jsonl"], policy=cut | {"max_prompt_length": 100})
    again = check(raised, tokenizer, earlier=read_record(tmp_path))
    assert (again.selection.limit, again.longest, again.digest) == (60, 60, first.digest)


def test_a_resumed_run_is_refused_where_its_prompts_are_others(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    lines(tmp_path / "train.jsonl", ask(1), ask(2, words=100))
    first = check(recipe(tmp_path, ["train.jsonl"]), tokenizer)
    with pytest.raises(PromptsRefusedError, match=r"used by the run: 1 prompt\. .* lower than") as refused:
        check(recipe(tmp_path, ["train.jsonl"], policy={"max_length": 60}), tokenizer, earlier=first)
    assert [each.where for each in refused.value.dropped] == [f"{tmp_path}/train.jsonl, line 2"]
    for rows in ([ask(1)], [ask(1), ask(2, 5, words=100)], [ask(1), ask(2, words=100), ask(3)]):
        lines(tmp_path / "train.jsonl", *rows)
        with pytest.raises(PromptsRefusedError, match="the data have changed since the run began"):
            check(recipe(tmp_path, ["train.jsonl"]), tokenizer, earlier=first)


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text("{}")
    with pytest.raises(ValueError, match=r"prompts\.json or dropped\.jsonl beside it is broken"):
        read_record(tmp_path)


def test_an_end_token_that_is_none(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", ask(1))
    last = max(tokenizer.get_vocab().values())
    check(recipe(tmp_path, ["a.jsonl"], policy={"stop_token_ids": [0, last]}), tokenizer)
    with pytest.raises(
        PromptsRefusedError, match=rf"stop_token_ids: {last + 1} is no token .* 0\.\.{last}\."
    ):
        check(recipe(tmp_path, ["a.jsonl"], policy={"stop_token_ids": [0, last + 1]}), tokenizer)
