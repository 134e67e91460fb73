"""What a row of a user's data file asks, and the gold that travels with it."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlad_core import data
from rlad_core.tasks.columns import ANSWERED, ASKED, chosen, value_in
from rlad_core.tasks.rows import AskedRow, messages_of


@dataclass(frozen=True)
class PromptReader:
    """Reads a row; columns that are not named are found by the names in `columns`.

    system: a system message, where a chat has none.
    """

    prompt: str | None
    gold: str | None
    system: str | None

    def choose(self, names: Sequence[str]) -> Sequence[str]:
        """All columns: the function gets the whole row."""
        chosen(names, self.prompt, ASKED)
        chosen(names, self.gold, ANSWERED)
        return names

    def read(self, values: dict[str, Any]) -> AskedRow:
        """See `RowReader.read`."""
        messages = messages_of(value_in(values, self.prompt, ASKED)[1])
        if self.system is not None and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        column, gold = value_in(values, self.gold, ANSWERED)
        try:
            answer = json.dumps(_plain(gold), allow_nan=False, sort_keys=True)
        except ValueError as error:
            raise ValueError(f"{column} is {gold!r:.60}, which is or holds no finite number") from error
        return AskedRow(messages, json.dumps({"gold": as_json(gold), "row": as_json(values)}), answer)


def rows(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a path with their places (``line 3``), for a reader that takes all of them or none.

    Raises:
        DataError: it cannot be read, or a row cannot.
    """
    for found in data.rows(str(path)):
        if isinstance(found, data.Fault):
            raise data.DataError(f"{found.where}: {found.reason}")
        yield found.where.rpartition(", ")[2], found.values


def as_json(value: Any) -> Any:
    """A value as JSON has it; numbers stay what they are. See `Prompts` for what becomes text."""
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _plain(value: Any) -> Any:
    """A gold to compare with others: 27.0 is 27, and what is not finite stays so."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return as_json(value)
