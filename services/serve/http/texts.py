"""Text in requests: what may stand for token ids, and how it becomes some."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from rlad_core.client.errors import LimitError
from rlad_core.language_model.chat import OWN, ChatFormat
from rlad_core.metric_specs import LimitKind
from rlad_core.turn import opened_by
from services.base.encoder import Encoder
from services.serve.http.json_forms import TokenIds, invalid, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Text = Annotated[str, Meta(min_length=1)]
# What a token stands for is rarely longer, and never for long: a longer one counts as so many bytes.
_LEAST_BYTES_OF_LONGEST = 64
# A text of more for each token that the model takes is not tokenized at once. English has some four.
_LETTERS_LOOKED_AT = 8
_PLAINLY = 1.5
_TOKENS_OF_A_LETTER = 4
"""At most, one for each of its bytes; what a chat template adds is not counted."""


class Message(Struct, forbid_unknown_fields=True):
    """One turn of a chat."""

    role: Text
    content: str


class PromptIn(Struct, forbid_unknown_fields=True, kw_only=True):
    """A prompt: token ids, or text that the service tokenizes."""

    id: (
        Annotated[str, Meta(min_length=1, description="Yours; by default its place, '0', '1', ...")]
        | UnsetType
    ) = UNSET
    prompt_token_ids: Annotated[Raw, TokenIds] | UnsetType = UNSET
    prompt: (
        Annotated[str, Meta(min_length=1, description="Text as it is, special tokens included; no template.")]
        | UnsetType
    ) = UNSET
    messages: (
        Annotated[
            list[Message], Meta(min_length=1, description="A chat, put through the model's chat template.")
        ]
        | UnsetType
    ) = UNSET


@dataclass(frozen=True)
class Reader:
    """Reads what stands in requests as token ids.

    Args:
        tokenizer: for text.
        max_length: tokens that the model takes.
        longest_token: bytes of the longest one in the vocabulary.
        chat: how messages become a prompt.
        vocab_size: token ids are below it.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    longest_token: int
    chat: ChatFormat = OWN
    vocab_size: int = 2**31

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        chat: ChatFormat = OWN,
        vocab_size: int = 2**31,
    ) -> Reader:
        """For a model and its tokenizer."""
        longest = max(len(token.encode()) for token in tokenizer.get_vocab())
        return cls(tokenizer, max_length, max(longest, _LEAST_BYTES_OF_LONGEST), chat, vocab_size)

    @cached_property
    def encoder(self) -> Encoder:
        """What makes token ids of texts."""
        return Encoder(self.tokenizer)

    def least_tokens(self, *given: Any) -> int:
        """A lower bound of the tokens that fields of a request come to, without making them.

        Args:
            given: token ids as `Raw`, texts, or messages; those that are not set count nothing.
        """
        return sum(self._least(each) for each in given if each is not UNSET)

    def may_be_too_long(self, letters: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which rows are read first, so that one too long is found before thousands that are not.

        Args:
            letters: of each row's texts: int64 [rows].
        """
        return letters * _TOKENS_OF_A_LETTER > self.max_length

    def ids(self, raw: Raw, where: str) -> npt.NDArray[np.int32]:
        """A list of token ids: int32 [tokens].

        Raises:
            ProblemError: 422, it is none, is empty, has an id that the model does not, or more than it takes.
        """
        return token_ids(raw, where, self.max_length, self.vocab_size)

    def prompt(self, prompt: PromptIn, where: str) -> npt.NDArray[np.int32]:
        """A prompt's token ids: int32 [tokens].

        Args:
            where: its place in the request, for the error.

        Raises:
            ProblemError: 422, no list of token ids, the chat template refuses the messages, no token comes of
                it, or more than the model takes.
        """
        return self.prompt_and_opening(prompt, where)[0]

    def prompt_and_opening(self, prompt: PromptIn, where: str) -> tuple[npt.NDArray[np.int32], str]:
        """A prompt's token ids, and what its chat template writes of the model's turn (`rlad_core.turn`).

        Raises:
            ProblemError: see `prompt`.
        """
        if isinstance(prompt.prompt_token_ids, Raw):
            return self.ids(prompt.prompt_token_ids, f"{where}.prompt_token_ids"), ""
        if isinstance(prompt.prompt, str):
            return self.text(prompt.prompt, f"{where}.prompt"), ""
        place = f"{where}.messages".removeprefix(".")
        chat: list[Message] = prompt.messages or []
        self._refuse_if_too_long(self._least(chat), place)
        try:
            text = self.chat.text(self.tokenizer, [msgspec.structs.asdict(message) for message in chat])
        except Exception as error:  # a template is a program of its own, and raises what it likes
            raise invalid(place, str(error)) from error
        return self.text(text, place), opened_by(text)

    def text(self, text: str, where: str) -> npt.NDArray[np.int32]:
        """The token ids of a text, with no special token added: int32 [tokens].

        Raises:
            ProblemError: 422, there are none, or more than the model takes.
        """
        self._refuse_if_too_long(self._least(text), where)
        self.refuse_if_plainly_too_long(text, where)
        ids = np.array(self.encoder.ids(text), dtype=np.int32)
        if not ids.size:
            raise invalid(where, "the text has no token")
        if ids.size > self.max_length:
            raise invalid(
                where,
                f"the text has {ids.size} tokens, and {self.max_length} are the most that the model takes",
            )
        return ids

    def refuse_if_plainly_too_long(self, text: str, where: str) -> None:
        """Tokenize no more of a text than it takes to see that it is too long.

        Raises:
            ProblemError: 422, its beginning alone has far more tokens than the model takes.
        """
        begin = text[: _LETTERS_LOOKED_AT * self.max_length]
        if len(begin) == len(text):
            return
        # Where it is cut, words may come to other tokens than in the whole; so a few too many say nothing.
        if len(self.encoder.ids(begin)) > _PLAINLY * self.max_length:
            raise invalid(
                where,
                f"the text has far more than {self.max_length} tokens, the most that the model takes",
            )

    def _least(self, given: Any) -> int:
        if isinstance(given, Raw):
            return bytes(given).count(b",") + 1
        if isinstance(given, str):
            return -(-len(given) // self.longest_token)
        return sum(self._least(message.content) for message in given)

    def _refuse_if_too_long(self, least: int, where: str) -> None:
        if least > self.max_length:
            raise invalid(
                where,
                f"the text has {least} tokens at least, and {self.max_length} are the most that the model "
                "takes",
            )


def _values_of(form: Struct, names: tuple[str, ...]) -> tuple[Any, ...]:
    """The values of two fields or more."""
    values: tuple[Any, ...] = _getter(names)(form)
    return values


def letters_of(*given: Any) -> int:
    """Of the fields of a request that are texts or messages."""
    letters = 0
    for each in given:
        if isinstance(each, str):
            letters += len(each)
        elif isinstance(each, list):
            letters += sum(len(message.content) for message in each)
    return letters


@cache
def _getter(names: tuple[str, ...]) -> attrgetter[Any]:
    return attrgetter(*names)


def check_one_given(form: Struct, *names: str) -> None:
    """Exactly one of the fields is set.

    Raises:
        ValueError: names those that are.
    """
    if _values_of(form, names).count(UNSET) != len(names) - 1:
        given = [name for name in names if getattr(form, name) is not UNSET]
        raise ValueError(f"give one of {', '.join(names)}, not {' and '.join(given) or 'none'}")


def refuse_over(kind: LimitKind, count: int, most: int, what: str) -> None:
    """Refuse what is more than a request may have.

    Args:
        kind: of the limit.

    Raises:
        LimitError: it is more.
    """
    if count > most:
        raise LimitError(kind, f"{count} {what} in one request; at most {most} are taken")
