"""Which columns of a file hold prompt and response, and what of each row is sent to a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlad_core.data import Row

PROMPTS = ("prompt_token_ids", "messages", "prompt")
RESPONSES = ("response_token_ids", "response", "completion")
"""Names of columns that are looked for, the first first."""


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
        found = prompt or _first(names, PROMPTS)
        reply = response or _first(names, RESPONSES)
        if not (prompt or response) and reply != RESPONSES[0]:
            # Token ids of the prompt alone are of no use: the text is beside them, as a rule.
            found = _first([name for name in names if name != PROMPTS[0]], PROMPTS) or found
        if not found:
            wanted = ", ".join(PROMPTS)
            raise AskedError(f"no column of {wanted} is there; name the one with prompts: --prompt COLUMN")
        if not reply and found != "messages" and not prompt:
            wanted = ", ".join(RESPONSES)
            raise AskedError(
                f"no column of {wanted} is there; name the one with responses: --response COLUMN"
            )
        return cls(found, reply or None)

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
        response = _value(row, self.response)
        if _is_chat(response) and len(response) == 1:
            response = response[0]["content"]
        if _is_tokens(prompt) and _is_tokens(response):
            unfit = _unfit(self.prompt, prompt) or _unfit(self.response, response)
            return Asked(row.where, prompt, response, unfit)
        if not isinstance(response, str):
            raise AskedError(
                f"{row.where}: {self.response} is {_kind(response)} and {self.prompt} {_kind(prompt)}; both "
                "are to be token ids, or the response text"
            )
        if not response:
            raise AskedError(f"{row.where}: {self.response} is empty")
        if _is_chat(prompt):
            return Asked(row.where, _turns(prompt), response)
        if not isinstance(prompt, str) or not prompt:
            raise AskedError(f"{row.where}: {self.prompt} is {_kind(prompt)}, and no text or chat")
        return Asked(row.where, prompt, response)


def _first(names: Sequence[str], wanted: Sequence[str]) -> str:
    return next((name for name in wanted if name in names), "")


def _value(row: Row, column: str) -> Any:
    if (value := row.values.get(column)) is None:
        raise AskedError(f"{row.where}: {column} is missing")
    return value


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
