"""Token ids and places without transformers' own way to them: the same, whatever the tokenizer is set to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_kinds import ALL_KINDS, WRITTEN, byte_level
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from services.base.encoder import Encoder

ENCODERS = {kind: Encoder(tokenizer) for kind, tokenizer in ALL_KINDS.items()}
WITH_END = st.one_of(WRITTEN, WRITTEN.map(lambda text: f"{text}<end>{text}"))


def told(tokenizer: Any, text: str, *, add_special_tokens: bool) -> tuple[list[int], list[tuple[int, int]]]:
    encoded = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]


@pytest.mark.parametrize("kind", ALL_KINDS)
@given(text=WITH_END, special=st.booleans())
def test_ids_and_places_are_the_tokenizer_s_own(kind: str, text: str, special: bool) -> None:
    wanted = told(ALL_KINDS[kind], text, add_special_tokens=special)
    encoder = ENCODERS[kind]
    assert encoder.ids(text, add_special_tokens=special) == wanted[0]
    assert encoder.ids_and_places(text, add_special_tokens=special) == wanted


def test_settings_of_the_tokenizer_hold() -> None:
    """Special tokens that are added or taken apart; and what its file says of cutting and filling, which no
    call without a word of it does.
    """
    tokenizer: Any = byte_level()
    library = tokenizer.backend_tokenizer
    library.post_processor = TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 0)])
    library.enable_truncation(3)
    library.enable_padding(length=40)
    tokenizer.split_special_tokens = True
    text = "Mia said<end>"
    encoder = Encoder(tokenizer)
    for special in (True, False):
        ids = encoder.ids(text, add_special_tokens=special)
        assert (ids, encoder.ids_and_places(text, add_special_tokens=special)[0]) == (ids, ids)
        assert ids == told(tokenizer, text, add_special_tokens=special)[0]
        assert (ids[0] == 0) == special
        assert 0 not in ids[1:]
        assert len(ids) > 3


class Prefixed(PreTrainedTokenizerFast):
    """Does more with a text than its library, as CodeLlama's tokenizer does."""

    def _encode_plus(self, text: Any, *args: Any, **settings: Any) -> Any:
        return super()._encode_plus("Mia" + text, *args, **settings)


def test_a_tokenizer_that_does_more_than_its_library_is_asked_itself() -> None:
    tokenizer: Any = Prefixed(tokenizer_object=byte_level().backend_tokenizer, eos_token="<end>")
    encoder = Encoder(tokenizer)
    assert encoder.ids(" said") == byte_level()("Mia said", add_special_tokens=False)["input_ids"]
    assert encoder.ids_and_places(" said") == told(tokenizer, " said", add_special_tokens=False)
