"""What each token stands for in a text: its string, and where in the text it is.

A token need not be whole characters: byte-level vocabularies split an emoji into several. So tokens are
bytes here, and places are counted in the characters that those bytes come to; each part of a character has
the place of the whole, as tokenizers tell it too. A token that is no text by itself is shown as
``bytes:\\xf0\\x9f``, as OpenAI's completions do it, so that two of them never look alike for being broken.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from services.base.encoder import Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # how SentencePiece names what is no token of its own

Span = tuple[int, int]
"""The first character of a text that a token has a part of, and the one behind its last."""


class Pieces(NamedTuple):
    """A row of tokens as text.

    Args:
        text: of all of them.
        tokens: the string of each.
        spans: place of each in `text`.
    """

    text: str
    tokens: list[str]
    spans: list[Span]


class TokenTexts:
    """The strings of a tokenizer's tokens; each is found once and kept."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._ids = frozenset(tokenizer.get_vocab().values())
        self._special = frozenset(tokenizer.all_special_ids)
        self._added = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items()}
        self._bytes: dict[tuple[int, bool], bytes] = {}
        self._names: dict[tuple[int, bool], str] = {}
        self._characters = _bytes_of_characters() if _is_byte_level(tokenizer) else None
        # Decoders may treat the first token of a text otherwise: all others are read behind this one.
        self._before = next((i for i in sorted(tokenizer.get_vocab().values()) if self._is_plain(i)), None)

    @property
    def highest(self) -> int:
        """Of the ids that are tokens'."""
        return max(self._ids)

    def is_token(self, token_id: int) -> bool:
        """Whether it is the id of a token, and not of a row of the head that is none."""
        return token_id in self._ids

    def is_special(self, token_id: int) -> bool:
        """Whether a token, such as an end token, is no part of what was written."""
        return token_id in self._special

    def pieces(self, token_ids: Sequence[int], *, first: bool = True) -> Pieces:
        """The tokens of a text.

        Args:
            first: whether a text begins with them, or they go on with one.
        """
        growing = GrowingText(self, first=first)
        text, spans = growing.add(token_ids)
        return Pieces(text + growing.end(), self.names(token_ids, first=first), spans)

    def names(self, token_ids: Iterable[int], *, first: bool = False) -> list[str]:
        """The string of each token; `first` as in `pieces`."""
        return [self.name(i, first=first and place == 0) for place, i in enumerate(token_ids)]

    def name(self, token_id: int, *, first: bool = False) -> str:
        """A token's string."""
        key = (token_id, first)
        if (found := self._names.get(key)) is None:
            content = self.bytes_of(token_id, first=first)
            try:
                found = content.decode()
            except UnicodeDecodeError:
                found = "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)
            self._names[key] = found
        return found

    def bytes_of(self, token_id: int, *, first: bool = False) -> bytes:
        """What a token stands for, in UTF-8; of a broken character its part."""
        key = (token_id, first)
        if (found := self._bytes.get(key)) is None:
            found = self._bytes[key] = self._find(token_id, first)
        return found

    def _find(self, token_id: int, first: bool) -> bytes:
        token: Any = self._tokenizer.convert_ids_to_tokens(token_id)
        if token is None:  # a row of the head that is no token
            return b""
        if self._characters is not None:
            added = self._added.get(token_id)
            return bytes(self._characters[each] for each in token) if added is None else added.encode()
        if byte := _BYTE.fullmatch(token):
            return bytes.fromhex(byte[1])
        if first or self._before is None:
            return self._decoded(token_id).encode()
        return self._decoded(self._before, token_id).removeprefix(self._decoded(self._before)).encode()

    def _is_plain(self, token_id: int) -> bool:
        return token_id not in self._added and self._decoded(token_id).strip().isalnum()

    def _decoded(self, *token_ids: int) -> str:
        return str(self._tokenizer.decode(list(token_ids), clean_up_tokenization_spaces=False))


class GrowingText:
    """A text whose tokens come piece by piece: what is behind is kept as its length, not looked at again.

    Args:
        first: as in `TokenTexts.pieces`.
    """

    def __init__(self, texts: TokenTexts, *, first: bool = True) -> None:
        self._texts = texts
        self._first = first
        self._length = 0
        # Characters with what the open one comes to if nothing goes on with it.
        self._begun = 0
        # Between pieces too: a character may begin in one and end in the next.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token_ids: Iterable[int]) -> tuple[str, list[Span]]:
        """What whole characters the next tokens bring, and the place of each token in all of the text."""
        spans: list[Span] = []
        parts: list[str] = []
        for token_id in token_ids:
            content = self._texts.bytes_of(token_id, first=self._first)
            start = self._length
            if content and self._begun > start:
                # Only its first byte says whether it goes on with the character that is open, or breaks it.
                parts.append(self._decoded(content[:1]))
                start, content = self._begun - 1, content[1:]
            parts.append(self._decoded(content))
            spans.append((start, self._begun))
            self._first = False
        return "".join(parts), spans

    def end(self) -> str:
        """What is left of a broken character."""
        return self._decoder.decode(b"", final=True)

    def _decoded(self, content: bytes) -> str:
        text = self._decoder.decode(content)
        self._length += len(text)
        open_bytes, _ = self._decoder.getstate()
        self._begun = self._length + len(open_bytes.decode(errors="replace"))
        return text


def spans_in(encoder: Encoder, text: str, token_ids: Sequence[int]) -> list[Span] | None:
    """Where in a text that was sent its tokens are, as the tokenizer tells it.

    What they decode to need not be that text: it may lack spaces and have unknown words and normal forms.

    Args:
        token_ids: what the text came to, no special token added.

    Returns:
        None: the tokenizer tells no places, or the text comes to other tokens by now.
    """
    ids, places = encoder.ids_and_places(text)
    return places if ids == list(token_ids) else None


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    decoder = json.loads(backend.to_str()).get("decoder") or {}
    return any(part.get("type") == "ByteLevel" for part in (decoder, *decoder.get("decoders", ())))


def _bytes_of_characters() -> dict[str, int]:
    """How byte-level vocabularies write bytes: printable ones of Latin-1 as they are, the others in order
    from U+0100 on (the encoder of GPT-2; Radford et al., 2019).
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }
