"""The stream of training prompts: one order for every run, each prompt once an epoch, ids unique a visit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from rlad_core import schema
from rlad_core.config import RunConfig, validate
from rlad_core.prompt_stream import (
    PromptStream,
    PromptTables,
    Selection,
    held_out_prompts,
    rows_of,
    tasks_of,
)
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


def fewer(config: RunConfig, count: int) -> RunConfig:
    """The same recipe with so many prompts to train on."""
    section: Any = config.task
    task = section.model_copy(update={"train": section.train.model_copy(update={"count": count})})
    return config.model_copy(update={"task": task})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_step_may_hold_a_prompt_of_two_epochs(tokenizer: PreTrainedTokenizerBase, count: int) -> None:
    """Four positions over fewer prompts: the table has each prompt once, the visits are all there."""
    stream = PromptStream(fewer(recipe(), count), tokenizer)
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


def test_an_order_is_made_once_where_steps_go_to_and_fro_between_epochs(
    stream: PromptStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = PromptStream(recipe(), build_tokenizer(1024))
    made: list[list[int]] = []
    generator = np.random.default_rng

    def counted(seed: list[int]) -> np.random.Generator:
        made.append(seed)
        return generator(seed)

    monkeypatch.setattr(np.random, "default_rng", counted)
    back_and_forth = [0, COUNT, 1, COUNT + 1, 2, COUNT + 2] * 50
    assert [each.prompt_id for each in fresh.prompts(back_and_forth[:6])] == [
        each.prompt_id for each in stream.prompts(back_and_forth[:6])
    ]
    made.clear()
    fresh.prompts(back_and_forth)
    assert made == []


def test_what_is_left_out_is_never_met(stream: PromptStream, tokenizer: PreTrainedTokenizerBase) -> None:
    first, second = (prompt.prompt_id for prompt in stream.prompts(range(2)))
    fewer_prompts = PromptStream(recipe(), tokenizer, Selection(training=frozenset({first, second})))
    met = [set(ids(fewer_prompts, range(e * (COUNT - 2), (e + 1) * (COUNT - 2)))) for e in range(3)]
    assert met[0] == met[1] == met[2]
    assert len(met[0]) == COUNT - 2
    assert not met[0] & {first, second}
    everything = Selection(training=frozenset(ids(stream, range(COUNT))))
    with pytest.raises(ValueError, match="no prompt to train on"):
        PromptStream(recipe(), tokenizer, everything)


def test_a_longer_prompt_loses_its_beginning_and_keeps_the_chat(tokenizer: PreTrainedTokenizerBase) -> None:
    [prompt] = PromptStream(fewer(recipe(), 1), tokenizer).prompts([0])
    [whole] = PromptTables(tokenizer).read([prompt])[1]
    said = prompt.messages[1]["content"]
    for limit in (len(whole), len(whole) - 1, len(whole) - 10):
        [text], [ids] = PromptTables(tokenizer, cut_at=limit).read([prompt])
        assert len(ids) == limit
        assert text.endswith("<|assistant|>")
        start = text.index("<|user|>") + len("<|user|>")
        kept = text[start : text.index("<|", start)].strip()
        assert said.endswith(kept)
        assert (kept == said) == (limit == len(whole))
