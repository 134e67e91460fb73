"""Which columns of a file hold prompt and response, and what of each row is sent to a teacher."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlad_core.data import Row
from rlad_core.tasks.columns import unwritten

_PROMPT_IDS, _RESPONSE_IDS = "prompt_token_ids", "response_token_ids"
_PAIRS = (
    (_PROMPT_IDS, _RESPONSE_IDS),
    ("prompt", "completion"),  # messages beside them are the whole chat, the completion included
    ("messages", "response"),
    ("prompt", "response"),
    ("messages", "completion"),
)
"""Names of columns that are looked for together, the first first."""
_PROMPTS = (_PROMPT_IDS, "messages", "prompt")
_RESPONSES = (_RESPONSE_IDS, "response", "completion")

_NO_TEXT = {"messages": "a chat", _PROMPT_IDS: "token ids", _RESPONSE_IDS: "token ids"}
"""What columns of these names hold; a text in them is read as such, since cells of CSV files are texts."""
_LIKE_A_CHAT = re.compile(r"""\s*\[\s*\{\s*['"](?:role|content)['"]\s*:.*\}\s*\]\s*""", re.DOTALL)

_TOO_LARGE = 2**31
"""The first number that is no token id: they travel as int32."""


class AskedError(ValueError):
    """What is asked for does not fit the file; the message says where and what to do."""


@dataclass(frozen=True)
class Asked:
    """One row's response after its prompt.

    Args:
        where: the row, for errors.
        prompt: text, messages of a chat, or token ids.
        response: text, or token ids where the prompt has them.
        unfit: why no teacher can take it, though it has a prompt and a response; empty: perhaps one can.
    """

    where: str
    prompt: Any
    response: Any
    unfit: str = ""

    @property
    def is_tokens(self) -> bool:
        """Whether both are token ids."""
        return not isinstance(self.response, str)

    @property
    def is_chat(self) -> bool:
        """Whether the prompt is one."""
        return not self.is_tokens and not isinstance(self.prompt, str)

    @property
    def size(self) -> int:
        """Tokens; of text at most so many, since a token has a byte at least."""
        if self.is_tokens:
            return len(self.prompt) + len(self.response)
        said = [self.prompt] if isinstance(self.prompt, str) else [turn["content"] for turn in self.prompt]
        return sum(len(text.encode()) for text in (*said, self.response))


@dataclass(frozen=True)
class Columns:
    """Where prompt and response stand.

    Args:
        response: None: it is the last message of the prompt's column, the assistant's.
    """

    prompt: str
    response: str | None

    @classmethod
    def of(cls, names: Sequence[str], prompt: str = "", response: str = "") -> Columns:
        """The columns of a file.

        Args:
            names: all that it has.
            prompt, response: those that somebody chose; empty: by their names.

        Raises:
            AskedError: there are no such columns.
        """
        for option, chosen in (("--prompt", prompt), ("--response", response)):
            if chosen and chosen not in names:
                raise AskedError(f"{option} {chosen}: there is no such column; there are {', '.join(names)}")
        if prompt and response:
            return cls(prompt, None if response == prompt else response)
        if prompt:
            return cls(prompt, _partner(names, _PAIRS, prompt, _RESPONSES) or None)
        if response:
            turned = [(reply, asked) for asked, reply in _PAIRS]
            if not (found := _partner(names, turned, response, _PROMPTS)):
                raise AskedError(_lacks("prompts", _PROMPTS, "--prompt"))
            return cls(found, response)
        for pair in _PAIRS:
            if set(pair) <= set(names):
                return cls(*pair)
        if "messages" in names:
            return cls("messages", None)
        if not set(names) & set(_PROMPTS):
            raise AskedError(_lacks("prompts", _PROMPTS, "--prompt"))
        if not set(names) & set(_RESPONSES):
            raise AskedError(_lacks("responses", _RESPONSES, "--response"))
        known = [name for name in names if name in (*_PROMPTS, *_RESPONSES)]
        raise AskedError(
            f"{' and '.join(known)} make no pair: token ids ({_RESPONSE_IDS}) are scored after token ids "
            f"({_PROMPT_IDS}), text after text or a chat; name the columns: --prompt COLUMN --response COLUMN"
        )

    def asked(self, row: Row) -> Asked:
        """What of a row is sent.

        Raises:
            AskedError: it holds no prompt or no response; names row and column.
        """
        prompt = _value(row, self.prompt)
        if self.response is None:
            if not _is_chat(prompt) or len(prompt) < 2 or prompt[-1]["role"] != "assistant":
                raise AskedError(
                    f"{row.where}: {self.prompt} is no chat that ends with an assistant's message; name the "
                    "column with responses: --response COLUMN"
                )
            *prompt, last = prompt
            if not last["content"]:
                raise AskedError(f"{row.where}: the last message of {self.prompt} is empty")
            return Asked(row.where, _turns(prompt), last["content"])
        if _is_chat(prompt) and prompt[-1]["role"] == "assistant":
            raise AskedError(
                f"{row.where}: {self.prompt} ends with an assistant's message, and {self.response} would be "
                "scored as another one behind it. Name the column without the response: --prompt COLUMN; or, "
                f"to score that last message, --prompt {self.prompt} --response {self.prompt}"
            )
        response = _value(row, self.response)
        if _is_chat(response) and len(response) == 1:
            response = response[0]["content"]
        for column, value in ((self.prompt, prompt), (self.response, response)):
            if value in ("", []):
                raise AskedError(f"{row.where}: {column} is empty")
        if _is_tokens(prompt) and _is_tokens(response):
            unfit = _unfit(self.prompt, prompt) or _unfit(self.response, response)
            return Asked(row.where, prompt, response, unfit)
        if not isinstance(response, str):
            raise AskedError(
                f"{row.where}: {self.response} is {_kind(response)} and {self.prompt} {_kind(prompt)}; both "
                "are to be token ids, or the response text"
            )
        if _is_chat(prompt):
            return Asked(row.where, _turns(prompt), response)
        if not isinstance(prompt, str):
            raise AskedError(f"{row.where}: {self.prompt} is {_kind(prompt)}, and no text or chat")
        if _LIKE_A_CHAT.fullmatch(prompt):
            raise AskedError(
                f"{row.where}: {self.prompt} is a text that looks like a chat. Write the chat as a list of "
                "messages, or its JSON in a column named messages"
            )
        return Asked(row.where, prompt, response)


def _partner(
    names: Sequence[str], pairs: Sequence[tuple[str, str]], chosen: str, others: Sequence[str]
) -> str:
    """The column that goes with a chosen one; token ids where they are its pair, or nothing else is there."""
    paired = [other for one, other in pairs if one == chosen]
    texts = [name for name in others if name not in (_PROMPT_IDS, _RESPONSE_IDS)]
    return next((name for name in (*paired, *texts, *others) if name in names and name != chosen), "")


def _lacks(what: str, wanted: Sequence[str], option: str) -> str:
    return f"no column of {', '.join(wanted)} is there; name the one with {what}: {option} COLUMN"


def _value(row: Row, column: str) -> Any:
    if (value := row.values.get(column)) is None:
        raise AskedError(f"{row.where}: {column} is missing")
    wanted = _NO_TEXT.get(column)
    found = value if wanted is None else unwritten(value)
    for number, turn in enumerate(found if _has_turns(found) else (), start=1):
        if not isinstance(content := turn.get("content"), str):
            said = "no content" if content is None else f"the content {_kind(content)}"
            raise AskedError(
                f"{row.where}: message {number} of {column} has {said}; messages of text are scored"
            )
    if wanted is None:
        return value
    fits = _is_chat(found) if wanted == "a chat" else _is_tokens(found)
    if not fits and isinstance(value, str):
        raise AskedError(f"{row.where}: {column} is {_kind(value)}, and the text of no JSON with {wanted}")
    return found


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


def _unfit(column: str, tokens: Sequence[int]) -> str:
    """Such as the -100 of labels, at places that count for nothing."""
    odd = next((token for token in tokens if not 0 <= token < _TOO_LARGE), None)
    return "" if odd is None else f"{column} has {odd}, which is no token id"


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(turn, Mapping)
            and isinstance(turn.get("role"), str)
            and isinstance(turn.get("content"), str)
            for turn in value
        )
    )


def _has_turns(value: Any) -> bool:
    """Whether it is a chat, but for what its messages hold, such as images or calls of tools."""
    return isinstance(value, list) and all(
        isinstance(turn, Mapping) and isinstance(turn.get("role"), str) for turn in value
    )


def _turns(chat: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Without what else a turn may hold, such as nulls for other kinds of content."""
    return [{"role": turn["role"], "content": turn["content"]} for turn in chat]


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "text" if value else "empty"
    if _is_tokens(value):
        return "token ids"
    if _is_chat(value):
        return "a chat"
    return f"{type(value).__name__} {str(value)[:40]!r}"
