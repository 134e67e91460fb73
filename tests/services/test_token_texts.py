"""Strings and offsets of tokens, against what the tokenizer itself decodes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from services.serve.token_texts import GrowingText, TokenTexts

SAMPLE = ["Mia said: Zoey is a knave.", "naïve café 😀 👍🏽", " two  spaces\n", "日本語"]


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<end>"]
    )
    tokenizer.train_from_iterator(SAMPLE, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def sentence_piece() -> PreTrainedTokenizerFast:
    """As Llama 2 has it: a mark in place of spaces, bytes for what is no token."""
    words = ["<unk>", "<end>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdeimnosy", "▁a", "▁is"]
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary, [("▁", "a"), ("▁", "i")][:1], unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>")


def words() -> PreTrainedTokenizerFast:
    vocabulary = {word: place for place, word in enumerate(["<unk>", "<end>", "Mia", "said", "Zoey", "is"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>")


KINDS = {"bytes": byte_level(), "pieces": sentence_piece(), "words": words()}
TEXTS = {kind: TokenTexts(tokenizer) for kind, tokenizer in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@given(
    text=st.one_of(st.sampled_from(SAMPLE), st.text(st.characters(blacklist_categories=["Cs"]), min_size=1))
)
def test_the_texts_of_tokens_are_what_they_decode_to(kind: str, text: str) -> None:
    tokenizer: Any = KINDS[kind]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = TEXTS[kind].pieces(ids)
    assert pieces.text == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert len(pieces.tokens) == len(pieces.offsets) == len(ids)
    assert pieces.offsets == sorted(pieces.offsets)
    for token, begin in zip(pieces.tokens, pieces.offsets, strict=True):
        if not token.startswith("bytes:"):
            assert pieces.text[begin:].startswith(token)


def test_a_character_of_several_tokens() -> None:
    texts, tokenizer = TEXTS["bytes"], KINDS["bytes"]
    ids = tokenizer("a\N{SNOWMAN}b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 5  # the snowman is e2 98 83
    assert texts.pieces(ids) == (
        "a\N{SNOWMAN}b",
        ["a", r"bytes:\xe2", r"bytes:\x98", r"bytes:\x83", "b"],
        [0, 1, 1, 1, 2],
    )
    growing = GrowingText(texts)
    added = [growing.add(piece) for piece in (ids[:2], ids[2:3], ids[3:])]
    assert added == [("a", [0, 1]), ("", [1]), ("\N{SNOWMAN}b", [1, 2])]
    # Cut off in the middle of it.
    assert texts.pieces(ids[:2]).text == "a\N{REPLACEMENT CHARACTER}"


def test_what_goes_on_keeps_its_space() -> None:
    texts, tokenizer = TEXTS["words"], KINDS["words"]
    mia, said = tokenizer.convert_tokens_to_ids(["Mia", "said"])
    assert texts.pieces([mia, said]) == ("Mia said", ["Mia", " said"], [0, 3])
    assert texts.pieces([said], first=False).text == " said"
    assert texts.is_special(tokenizer.eos_token_id)
    assert not texts.is_special(mia)
