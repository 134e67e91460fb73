"""Strings and places of tokens, against what the tokenizer itself decodes and tells."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_kinds import ALL_KINDS, KINDS, TEXTS, WRITTEN

from services.serve.token_texts import GrowingText


@pytest.mark.parametrize("kind", KINDS)
@given(text=WRITTEN)
def test_the_texts_of_tokens_are_what_they_decode_to(kind: str, text: str) -> None:
    tokenizer: Any = KINDS[kind]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = TEXTS[kind].pieces(ids)
    assert pieces.text == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert len(pieces.tokens) == len(pieces.spans) == len(ids)


@given(text=WRITTEN)
def test_places_are_those_that_the_tokenizer_tells(text: str) -> None:
    # Of bytes, for only their tokens hold all of a text.
    encoded: Any = KINDS["bytes"](text, add_special_tokens=False, return_offsets_mapping=True)
    assert TEXTS["bytes"].pieces(encoded["input_ids"]).spans == encoded["offset_mapping"]


def characters_of(content: bytes) -> list[int]:
    """The character in which each byte is, of a text whose broken ones are replaced."""
    found: list[int] = []
    count = 0
    while len(found) < len(content):
        rest = content[len(found) :]
        try:
            size = len(rest.decode()[0].encode())
        except UnicodeDecodeError as broken:
            size = broken.end if broken.start == 0 else len(rest[: broken.start].decode()[0].encode())
        found += [count] * size
        count += 1
    return found


@pytest.mark.parametrize("kind", ALL_KINDS)
@given(data=st.data())
def test_places_in_what_ids_decode_to(kind: str, data: st.DataObject) -> None:
    """Of any ids in any order, so of broken characters too, however they are cut."""
    texts = TEXTS[kind]
    known = sorted(ALL_KINDS[kind].get_vocab().values())
    ids = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=24))
    text, tokens, spans = texts.pieces(ids)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start <= next_start <= end <= next_end  # in order, and nothing is between two of them

    contents = [texts.bytes_of(i, first=place == 0) for place, i in enumerate(ids)]
    characters = characters_of(b"".join(contents))
    place = 0
    for token, content, (start, end) in zip(tokens, contents, spans, strict=True):
        if content:
            its = characters[place : place + len(content)]
            assert (start, end) == (its[0], its[-1] + 1)
            if not token.startswith("bytes:"):
                assert text[start:end] == token
        place += len(content)

    # However they come.
    growing, cut = GrowingText(texts), data.draw(st.integers(0, len(ids)))
    (begin, first), (rest, others) = growing.add(ids[:cut]), growing.add(ids[cut:])
    assert (begin + rest + growing.end(), first + others) == (text, spans)


@pytest.mark.parametrize(
    ("content", "text", "spans"),
    [
        (b"\xf0\x9fab", "\ufffdab", [(0, 1), (0, 1), (1, 2), (2, 3)]),
        (b"a\xf0\x9f\x99\x82b", "a\U0001f642b", [(0, 1), *[(1, 2)] * 4, (2, 3)]),
        (b"\xe2\x98\xe2\x98\x83", "\ufffd\N{SNOWMAN}", [(0, 1), (0, 1), (1, 2), (1, 2), (1, 2)]),
        # Half of a pair is none of the characters that UTF-8 has, and each of its bytes is a broken one.
        (b"\xed\xa0", "\ufffd\ufffd", [(0, 1), (1, 2)]),
    ],
)
def test_bytes_one_by_one(content: bytes, text: str, spans: list[tuple[int, int]]) -> None:
    texts, tokenizer = TEXTS["bytes"], KINDS["bytes"]
    of_byte = {texts.bytes_of(i): i for i in tokenizer.get_vocab().values()}
    pieces = texts.pieces([of_byte[content[place : place + 1]] for place in range(len(content))])
    assert (pieces.text, pieces.spans) == (text, spans)


def test_a_character_of_several_tokens() -> None:
    texts, tokenizer = TEXTS["bytes"], KINDS["bytes"]
    ids = tokenizer("a\N{SNOWMAN}b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 5  # the snowman is e2 98 83
    assert texts.pieces(ids) == (
        "a\N{SNOWMAN}b",
        ["a", r"bytes:\xe2", r"bytes:\x98", r"bytes:\x83", "b"],
        [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)],
    )
    growing = GrowingText(texts)
    added = [growing.add(piece) for piece in (ids[:2], ids[2:3], ids[3:])]
    assert added == [("a", [(0, 1), (1, 2)]), ("", [(1, 2)]), ("\N{SNOWMAN}b", [(1, 2), (2, 3)])]
    # Cut off in the middle of it.
    assert texts.pieces(ids[:2]).text == "a\N{REPLACEMENT CHARACTER}"


def test_what_goes_on_keeps_its_space() -> None:
    texts, tokenizer = TEXTS["words"], KINDS["words"]
    mia, said = tokenizer.convert_tokens_to_ids(["Mia", "said"])
    assert texts.pieces([mia, said]) == ("Mia said", ["Mia", " said"], [(0, 3), (3, 8)])
    assert texts.pieces([said], first=False).text == " said"
    assert texts.is_special(tokenizer.eos_token_id)
    assert not texts.is_special(mia)
