"""The field ``prompt`` of a completion: a text, several, token ids of one, or of several."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Raw

from rlad_core.client.errors import LimitError
from services.serve.http.counting import outside_strings
from services.serve.http.json_forms import ListsOfTokenIds, TokenIds, decode, invalid, lists_in, token_ids
from services.serve.http.texts import Reader
from services.serve.token_sum import TokenSum

_FIRST = re.compile(rb"\[\s*(.)", re.DOTALL)
Text = Annotated[str, Meta(min_length=1)]
_TEXT = {"type": "string", "minLength": 1}
_IDS = TokenIds.extra_json_schema

PromptField = Meta(
    description="A text, a list of texts, a list of token ids, or a list of such lists: each text and each "
    "list of token ids has its own choices in the answer.",
    extra_json_schema={
        "oneOf": [
            _TEXT,
            {"type": "array", "items": _TEXT, "minItems": 1},
            _IDS,
            ListsOfTokenIds,
        ]
    },
)
"""What the OpenAPI document says of a `Raw` that `split` reads."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt.

    Args:
        token_ids: int32 [tokens].
        text: as it was sent; None where token ids were.
        offsets: int32 [tokens], character of the text at which each token begins; None where nobody asked, or
            the tokenizer does not say.
    """

    token_ids: npt.NDArray[np.int32]
    text: str | None = None
    offsets: npt.NDArray[np.int32] | None = None


def split(prompt: Raw, most: int) -> list[str | Raw]:
    """The single prompts, of which none has been read further.

    Args:
        most: that a request may have; counted before they are built.

    Raises:
        LimitError: there are more.
        ProblemError: 400 no JSON, 422 none of the forms.
    """
    content = bytes(prompt).lstrip()
    if content.startswith(b'"'):
        return [decode(prompt, Text, "prompt")]
    first = _FIRST.match(content)
    if first is None:
        raise invalid(
            "prompt", "Expected a text, a list of texts, a list of token ids, or a list of such lists"
        )
    if first[1] == b'"':
        _refuse_over(outside_strings(content, b'"', 2 * most) // 2, most)
        return list(decode(prompt, list[Text], "prompt"))
    if first[1] == b"[":
        _refuse_over(content.count(b"[") - 1, most)
        return list(lists_in(prompt, "prompt"))
    return [prompt]


def read(
    prompts: list[str | Raw],
    reader: Reader,
    vocab_size: int,
    *,
    add_special_tokens: bool,
    offsets: bool = False,
    tokens: TokenSum | None = None,
) -> list[Prompt]:
    """What `split` gave, as token ids.

    Args:
        vocab_size: token ids are below it.
        add_special_tokens: to texts, those that the tokenizer puts around one.
        offsets: whether places in texts are wanted; to tell them a tokenizer takes a third more time.
        tokens: counts those of all prompts, where a request has a limit for them.

    Raises:
        ProblemError: 422, an empty prompt, one that is too long, or no list of token ids of the vocabulary.
        LimitError: they have more tokens together than a request may have.
    """
    found: list[Prompt] = []
    for place, prompt in enumerate(prompts):
        where = "prompt" if len(prompts) == 1 else f"prompt[{place}]"
        if isinstance(prompt, str):
            found.append(_of_text(prompt, where, reader, add_special_tokens, offsets))
        else:
            found.append(_of_ids(prompt, where, reader, vocab_size))
        if tokens is not None:
            tokens.add(found[-1].token_ids.size, where)
    return found


def _of_ids(raw: Raw, where: str, reader: Reader, vocab_size: int) -> Prompt:
    return Prompt(token_ids(raw, where, reader.max_length, vocab_size))


def _of_text(text: str, where: str, reader: Reader, add_special_tokens: bool, offsets: bool) -> Prompt:
    if (least := reader.least_tokens(text)) > reader.max_length:
        raise invalid(
            where, f"has {least} tokens at least, and {reader.max_length} are the most that the model takes"
        )
    reader.refuse_if_plainly_too_long(text, where)
    if offsets:
        tokens, places = reader.encoder.ids_and_places(text, add_special_tokens=add_special_tokens)
    else:
        tokens, places = reader.encoder.ids(text, add_special_tokens=add_special_tokens), None
    ids = np.array(tokens, dtype=np.int32)
    if not ids.size:
        raise invalid(where, "the text has no token")
    if ids.size > reader.max_length:
        raise invalid(
            where, f"has {ids.size} tokens, and {reader.max_length} are the most that the model takes"
        )
    # Tokens that were added stand at 0, also behind the text.
    begins = None if places is None else accumulate((start for start, _ in places), max)
    return Prompt(ids, text, None if begins is None else np.fromiter(begins, np.int32, ids.size))


def _refuse_over(count: int, most: int) -> None:
    if count > most:
        raise LimitError("sequences", f"{count} prompts in one request; at most {most} are taken")
