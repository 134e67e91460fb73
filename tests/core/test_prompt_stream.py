"""The stream of training prompts: one order for every run, each prompt once an epoch, ids unique a visit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from rlad_core import schema
from rlad_core.config import RunConfig, validate
from rlad_core.prompt_stream import PromptStream, held_out_prompts, rows_of, tasks_of
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from rlad_core.tasks.knights_knaves.tiny import build_tokenizer

COUNT = 11
FINGERPRINT = schema.tokenizer_fingerprint(build_tokenizer(1024).get_vocab())
KNIGHTS = KnightsKnaves()


def recipe(*, seed: int = 0, max_length: int = 512, people: tuple[int, ...] = (2, 3)) -> RunConfig:
    data: dict[str, Any] = {
        "name": "stream",
        "seed": seed,
        "policy": {"model": "tiny:student", "init": "random", "max_length": max_length},
        "task": {
            "name": "knights_knaves",
            "train": {"people": list(people), "count": COUNT, "seed": 3},
            "evaluation": {"people": list(people), "count": 4, "split": "validation"},
        },
        "rollout": {"max_response_length": 16},
        "stages": [{"steps": 3, "objective": {"kind": "sft"}}],
    }
    return validate(data, "the test")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer(1024)


@pytest.fixture(scope="module")
def stream(tokenizer: PreTrainedTokenizerBase) -> PromptStream:
    return PromptStream(recipe(), tokenizer)


def ids(stream: PromptStream, positions: range) -> list[str]:
    return [prompt.prompt_id for prompt in stream.prompts(positions)]


def test_the_order_depends_on_the_seed_alone(
    stream: PromptStream, tokenizer: PreTrainedTokenizerBase
) -> None:
    first = ids(stream, range(3 * COUNT))
    again = PromptStream(recipe(), tokenizer)
    # Asked for in another order, as a resumed run does.
    assert ids(again, range(2 * COUNT, 3 * COUNT)) == first[2 * COUNT :]
    assert ids(again, range(2 * COUNT)) == first[: 2 * COUNT]
    other = ids(PromptStream(recipe(seed=1), tokenizer), range(COUNT))
    assert other != first[:COUNT]
    assert set(other) == set(first[:COUNT])


def test_every_epoch_is_a_permutation_of_its_own(stream: PromptStream) -> None:
    epochs = [ids(stream, range(e * COUNT, (e + 1) * COUNT)) for e in range(4)]
    assert all(len(set(epoch)) == COUNT and set(epoch) == set(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_sizes_come_in_equal_parts(stream: PromptStream) -> None:
    subsets = Counter(prompt.subset for prompt in stream.prompts(range(COUNT)))
    assert subsets == {"2_people": 6, "3_people": 5}


def test_group_ids_are_unique_per_visit(stream: PromptStream) -> None:
    positions = range(5 * COUNT)
    prompts = stream.prompts(positions)
    groups = [stream.group_id(p, prompt) for p, prompt in zip(positions, prompts, strict=True)]
    assert len(set(groups)) == len(groups)
    assert groups[0] == f"{prompts[0].prompt_id}#0"
    assert groups[4 * COUNT] == f"{prompts[4 * COUNT].prompt_id}#4"


def test_held_out_prompts_are_others(stream: PromptStream) -> None:
    held_out = held_out_prompts(recipe(), tasks_of(recipe()))
    assert Counter(prompt.subset for prompt in held_out) == {"2_people": 4, "3_people": 4}
    assert not {prompt.prompt_id for prompt in held_out} & set(ids(stream, range(COUNT)))


def test_the_table_holds_the_chat_with_its_generation_prompt(
    stream: PromptStream, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompts = stream.prompts(range(4))
    table = stream.table(prompts)
    schema.validate(table, schema.PROMPTS, tokenizer_fingerprint=FINGERPRINT)
    for row, prompt in zip(table.to_pylist(), prompts, strict=True):
        assert (row["prompt_id"], row["subset"], row["gold"]) == (
            prompt.prompt_id,
            prompt.subset,
            prompt.gold,
        )
        wanted = tokenizer.apply_chat_template(prompt.messages, add_generation_prompt=True)["input_ids"]
        assert row["prompt_token_ids"] == wanted
        assert row["prompt"].endswith("<|assistant|>")
        assert prompt.messages[1]["content"] in row["prompt"]


def test_demonstrations_end_in_the_end_token_and_are_the_tasks_own(
    stream: PromptStream, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompts = stream.prompts(range(COUNT))
    table = stream.demonstrations(prompts, [f"s{number}" for number in range(COUNT)])
    schema.validate(table, schema.SEQUENCES, tokenizer_fingerprint=FINGERPRINT)
    assert table["sequence_id"].to_pylist() == [f"s{number}" for number in range(COUNT)]
    assert table["prompt_token_ids"].to_pylist() == stream.table(prompts)["prompt_token_ids"].to_pylist()
    for prompt, tokens in zip(prompts, table["response_token_ids"].to_pylist(), strict=True):
        assert tokens[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in tokens[:-1]
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        assert text == KNIGHTS.demonstration(prompt.gold)
        assert KNIGHTS.verify(text, prompt.gold).reward == 3


def test_nothing_is_a_table_without_rows(stream: PromptStream) -> None:
    assert len(stream.table([])) == len(stream.demonstrations([], [])) == 0


def test_a_prompt_that_leaves_no_room_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    short = PromptStream(recipe(max_length=20), tokenizer)
    prompt = short.prompts([0])[0]
    with pytest.raises(
        ValueError, match=rf"{prompt.prompt_id} \({prompt.subset}\).*max_length is 20: raise it"
    ):
        short.table([prompt])


def test_the_limit_of_a_prompt_is_exact(stream: PromptStream, tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = stream.prompts([0])[0]
    length = len(stream.table([prompt])["prompt_token_ids"][0])
    assert len(PromptStream(recipe(max_length=length + 1), tokenizer).table([prompt])) == 1
    with pytest.raises(ValueError, match=f"has {length + 1} tokens"):
        PromptStream(recipe(max_length=length), tokenizer).table([prompt])


def test_a_worked_solution_that_does_not_fit_is_named(
    stream: PromptStream, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompt = stream.prompts([0])[0]
    row = stream.demonstrations([prompt], ["s"]).to_pylist()[0]
    length = len(row["prompt_token_ids"]) + len(row["response_token_ids"])
    assert len(PromptStream(recipe(max_length=length), tokenizer).demonstrations([prompt], ["s"])) == 1
    with pytest.raises(ValueError, match=f"with its worked solution has {length} tokens"):
        PromptStream(recipe(max_length=length - 1), tokenizer).demonstrations([prompt], ["s"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_step_may_hold_a_prompt_of_two_epochs(tokenizer: PreTrainedTokenizerBase, count: int) -> None:
    """Four positions over fewer prompts: the table has each prompt once, the visits are all there."""
    config = recipe()
    section: Any = config.task
    fewer = section.model_copy(update={"train": section.train.model_copy(update={"count": count})})
    stream = PromptStream(config.model_copy(update={"task": fewer}), tokenizer)
    prompts = stream.prompts(range(2, 6))
    table = stream.table(prompts)
    assert len(table) == len({prompt.prompt_id for prompt in prompts}) <= count
    assert rows_of(table, prompts)["prompt_id"].to_pylist() == [prompt.prompt_id for prompt in prompts]
    visits = [stream.group_id(position, prompt) for position, prompt in enumerate(prompts, start=2)]
    assert len(set(visits)) == 4
    worked = stream.demonstrations(prompts, visits)
    assert worked["sequence_id"].to_pylist() == visits
    asked = dict(zip(table["prompt_id"].to_pylist(), table["prompt_token_ids"].to_pylist(), strict=True))
    assert worked["prompt_token_ids"].to_pylist() == [asked[prompt.prompt_id] for prompt in prompts]
