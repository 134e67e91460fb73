"""Texts as token ids, without what transformers does around its tokenizers: of a short text four fifths of
the time, and of a long one the places of its tokens, which few want to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Places = list[tuple[int, int]]
"""Of each token the first character of the text that it has a part of, and the one behind its last."""
_MADE_BY = ("__call__", "_encode_plus")
"""What a class of tokenizers has of its own where it does more than to ask the library."""


class Encoder:
    """What a tokenizer makes of texts.

    Args:
        tokenizer: asked itself where it does more than its library (Python's own ones, CodeLlama's).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._library = _library_of(tokenizer)

    def ids(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The token ids of a text."""
        if self._library is None:
            told: list[int] = self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
            return told
        # Alone, `encode` would also find out where the tokens are.
        [encoded] = self._library.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoded.ids
        return ids

    def ids_and_places(
        self, text: str, *, add_special_tokens: bool = False
    ) -> tuple[list[int], Places | None]:
        """The same, and where in the text they are; None: the tokenizer tells no places."""
        if self._library is not None:
            encoded = self._library.encode(text, add_special_tokens=add_special_tokens)
            return encoded.ids, encoded.offsets
        if not self._tokenizer.is_fast:
            return self.ids(text, add_special_tokens=add_special_tokens), None
        told = self._tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
        return told["input_ids"], told["offset_mapping"]


def _library_of(tokenizer: PreTrainedTokenizerBase) -> Any:
    """The tokenizer as the library has it, set as it is for each call; None: there is more to it."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    from transformers import PreTrainedTokenizerFast

    kind = type(tokenizer)
    if any(getattr(kind, name) is not getattr(PreTrainedTokenizerFast, name) for name in _MADE_BY):
        return None
    library: Any = tokenizer.backend_tokenizer
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = tokenizer.split_special_tokens
    return library
