"""The forms that a completion's prompt may have."""

import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rlad_core.client.errors import LimitError
from services.serve.http.problems import ProblemError
from services.serve.http.texts import Reader
from services.serve.openai import prompts
from services.serve.token_sum import TokenSum


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: place for place, word in enumerate(["<unk>", "<s>", "Mia", "is", "Zoey"])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", unk_token="<unk>")


READER = Reader.of(tokenizer(), 6)


def read(prompt: Any, *, special: bool = False, most: int = 4, **more: Any) -> list[prompts.Prompt]:
    single = prompts.split(msgspec.Raw(msgspec.json.encode(prompt)), most)
    return prompts.read(single, READER, 5, add_special_tokens=special, **more)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Mia is", [[2, 3]]),
        (["Mia is", "Zoey"], [[2, 3], [4]]),
        ([2, 3], [[2, 3]]),
        ([[2, 3], [4]], [[2, 3], [4]]),
    ],
)
def test_four_forms(prompt: Any, expected: list[list[int]]) -> None:
    found = read(prompt)
    assert [each.token_ids.tolist() for each in found] == expected
    assert all(each.token_ids.dtype == np.int32 for each in found)


def test_texts_keep_their_text_and_where_their_tokens_begin() -> None:
    # The last word is unknown, and there are two spaces.
    [plain] = read("Mia  was", offsets=True)
    assert plain.offsets is not None
    assert (plain.text, plain.offsets.tolist()) == ("Mia  was", [0, 5])
    [begun] = read("Mia is", special=True, offsets=True)
    assert begun.offsets is not None
    assert (begun.token_ids.tolist(), begun.offsets.tolist()) == ([1, 2, 3], [0, 0, 4])
    [unasked] = read("Mia is")
    assert unasked.offsets is None


@pytest.mark.parametrize(
    ("prompt", "where"),
    [
        (5, "prompt: Expected a text"),
        (None, "prompt: Expected a text"),
        ({}, "prompt: Expected a text"),
        ([], "prompt: Expected `array` of length >= 1"),
        ("", "prompt: Expected `str` of length >= 1"),
        (["Mia", ""], r"prompt\[1\]: Expected `str` of length >= 1"),
        (["Mia", " "], r"prompt\[1\]: the text has no token"),
        ([[2], []], r"prompt\[1\]: Expected `array` of length >= 1"),
        ([2, -1], r"prompt\[1\]: -1 is no token id"),
        ([[2], [5]], r"prompt\[1\]\[0\]: 5 is no token; the vocabulary has ids 0..4"),
        ([2] * 7, "prompt: has 7 tokens, and 6 are the most"),
        ("Mia " * 7, "prompt: has 7 tokens, and 6 are the most"),
        (["Mia", 2], r"prompt\[1\]: Expected `str`"),
        ([[2], "Mia"], r"prompt\[1\]: Expected `array`"),
        ([[2], [3, 4], 5], r"prompt\[2\]: Expected `array`"),
        ("Mia " * 13, "prompt: the text has far more than 6 tokens"),
    ],
)
def test_what_is_none_of_them(prompt: Any, where: str) -> None:
    with pytest.raises(ProblemError, match=where) as refused:
        read(prompt)
    assert refused.value.problem.status == 422


def test_what_is_no_list_of_lists_is_not_built() -> None:
    prompt = msgspec.Raw(b"[[2]," + b"0," * 2**20 + b"0]")
    tracemalloc.start()
    try:
        with pytest.raises(ProblemError, match=r"prompt\[1\]: Expected `array`"):
            prompts.split(prompt, 4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(bytes(prompt))


@pytest.mark.parametrize("prompt", [["Mia"] * 5, [[2]] * 5])
def test_too_many(prompt: Any) -> None:
    assert len(read(prompt, most=5)) == 5
    with pytest.raises(LimitError, match="5 prompts in one request; at most 4 are taken"):
        read(prompt)


@pytest.mark.parametrize("prompt", [["Mia is"] * 3 + [" "], [[2, 3]] * 3 + [[9]]], ids=["texts", "token ids"])
def test_what_is_behind_too_many_tokens_is_not_read(prompt: Any) -> None:
    """Its last prompt is none."""
    with pytest.raises(ProblemError):
        read(prompt, tokens=TokenSum(6))
    with pytest.raises(LimitError, match=r"6 tokens in one request with prompt\[2\]; at most 5") as refused:
        read(prompt, tokens=TokenSum(5))
    assert refused.value.limit == "tokens"


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), min_size=1, max_size=8))
def test_texts_are_counted_whatever_they_hold(texts: list[str]) -> None:
    raw = msgspec.Raw(msgspec.json.encode(texts))
    assert prompts.split(raw, len(texts)) == texts
    if len(texts) > 1:
        with pytest.raises(LimitError):
            prompts.split(raw, len(texts) - 1)
