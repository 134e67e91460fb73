"""The tiny tokenizer and sizes: any puzzle comes back unchanged, ids never move, transformers loads them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from rlad_core.schema import tokenizer_fingerprint
from rlad_core.tasks.knights_knaves import generator, trace
from rlad_core.tasks.knights_knaves.names import COMMON
from rlad_core.tasks.knights_knaves.prompt import messages
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from rlad_core.tasks.knights_knaves.tiny import TINY_CONFIGS, build_tokenizer, write_untrained
from rlad_core.tasks.knights_knaves.tiny.models import MAX_LENGTH, tiny_config

FINGERPRINT = "sha256:1be310928fde53774b0b7f00fdbce9aa"
"""Of the shipped models' tokenizer. If this changes, they must be trained anew."""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer(MAX_LENGTH)


@cache
def puzzles(people: int) -> tuple[Puzzle, ...]:
    return tuple(generator.generate(people, "train", 11, 400 // people))


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("people", range(2, 9))
def test_puzzles_and_worked_solutions_come_back_unchanged(
    tokenizer: PreTrainedTokenizerBase, people: int
) -> None:
    for puzzle in puzzles(people)[: 200 if people < 6 else 10]:
        chat = messages(puzzle)
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        for text in (prompt, trace.demonstration(puzzle)):
            tokens = encode(tokenizer, text)
            assert tokenizer.unk_token_id not in tokens, text
            assert tokenizer.decode(tokens) == text


@settings(max_examples=60, deadline=None)
@given(people=st.integers(2, 8), seed=st.integers(0, 2**32), split=st.sampled_from(generator.SPLITS))
def test_any_generated_puzzle_comes_back_unchanged(people: int, seed: int, split: str) -> None:
    tokenizer = build_tokenizer(MAX_LENGTH)
    (puzzle,) = generator.generate(people, split, seed, 1)
    chat = messages(puzzle)
    for text in (chat[0]["content"], chat[1]["content"], puzzle.solution_text):
        tokens = encode(tokenizer, text)
        # Alone, a text may begin with a word that otherwise follows a blank.
        assert tokenizer.decode(tokens) == text or tokenizer.unk_token_id in tokens[:1]
        assert tokenizer.unk_token_id not in tokens[1:]
    wrong = trace.demonstration(puzzle) if people < 6 else puzzle.text
    assert tokenizer.decode(encode(tokenizer, f"<|assistant|>{wrong}")) == f"<|assistant|>{wrong}"


def test_every_name_is_a_token_wherever_it_stands(tokenizer: PreTrainedTokenizerBase) -> None:
    for name in COMMON:
        for text in (name, f" {name}"):
            assert len(encode(tokenizer, text)) == 1, text


def test_every_assignment_can_be_answered(tokenizer: PreTrainedTokenizerBase) -> None:
    """A wrong answer, too: the student must be able to write it."""
    for role in ("knight", "knave"):
        answer = "\n".join(f"({number}) {COMMON[number]} is a {role}" for number in range(1, 9))
        text = f"<|assistant|><think> </think><answer> {answer} </answer><|im_end|>"
        assert tokenizer.decode(encode(tokenizer, text)) == text


def test_texts_are_short(tokenizer: PreTrainedTokenizerBase) -> None:
    lengths = [len(encode(tokenizer, trace.demonstration(puzzle))) for puzzle in puzzles(3)]
    assert sum(lengths) / len(lengths) < 185
    assert max(lengths) <= 200, "the recipes' max_response_length counts on it"


def test_the_ids_are_pinned(tokenizer: PreTrainedTokenizerBase) -> None:
    # Sets are hashed anew in each process, so an order that came from one would show here.
    assert tokenizer_fingerprint(tokenizer.get_vocab()) == FINGERPRINT


@pytest.mark.parametrize("size", TINY_CONFIGS)
def test_a_written_folder_loads_with_the_auto_classes(
    tokenizer: PreTrainedTokenizerBase, size: str, tmp_path: Path
) -> None:
    folder = write_untrained(size, tmp_path / size)
    loaded = AutoTokenizer.from_pretrained(folder)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert (loaded.eos_token, loaded.pad_token, loaded.unk_token) == (
        "<|im_end|>",
        "<|endoftext|>",
        "<|unknown|>",
    )
    assert loaded.model_max_length == MAX_LENGTH
    (puzzle,) = puzzles(2)[:1]
    chat = messages(puzzle)
    asked = loaded.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert asked == tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    reply = {"role": "assistant", "content": trace.demonstration(puzzle)}
    whole = loaded.apply_chat_template([*chat, reply])["input_ids"]
    assert whole == [*asked, *encode(loaded, reply["content"]), loaded.eos_token_id]
    assert loaded.decode(whole[len(asked) :], skip_special_tokens=True) == reply["content"]

    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == "qwen3"
    assert config.vocab_size % 32 == 0
    assert config.vocab_size >= len(loaded)
    assert (config.eos_token_id, config.pad_token_id) == (loaded.eos_token_id, loaded.pad_token_id)


def test_the_sizes(tokenizer: PreTrainedTokenizerBase) -> None:
    parameters = {
        size: AutoModelForCausalLM.from_config(tiny_config(size)).num_parameters() for size in TINY_CONFIGS
    }
    assert 100_000 <= parameters["student"] <= 500_000
    assert 500_000 <= parameters["teacher"] <= 3_000_000
    with pytest.raises(ValueError, match="write one of student, teacher"):
        tiny_config("giant")


def test_the_longest_sequences_fit(tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = KnightsKnaves().prompts("train", "4_people", 100, 0)
    for prompt in prompts:
        text = tokenizer.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
        assert len(encode(tokenizer, text + KnightsKnaves().demonstration(prompt.gold))) < MAX_LENGTH
