"""A user's data files and reward function as a task: subsets are files, the function judges."""

from __future__ import annotations

import base64
import datetime
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rlad_core.sections import code
from rlad_core.tasks.base import Prompt, Task, Verdict, prompt_id
from rlad_core.tasks.prompts import reading
from rlad_core.tasks.prompts.reward import PART, Reward


@dataclass(frozen=True)
class ColumnNames:
    """What a file's columns are called, and what is said before each prompt."""

    prompt: str
    gold: str
    system: str | None


@dataclass(frozen=True)
class Row:
    """One row: its chat, its gold as it travels, and where it stands with which answer."""

    messages: list[dict[str, str]]
    gold: str
    where: str
    answer: str


class Prompts(Task):
    """The task with the prompts of some files. Judging needs no files.

    Gold is ``{"gold": what stands in the gold column, "row": all columns}``. Values that JSON does not have
    are texts there: dates as ISO 8601, bytes as UTF-8 or else base64; "nan" and "inf", which gold may not be.

    Args:
        files: by split and subset.
        prompt_column: holds a text, or a chat as messages with role and content.
        gold_column: what the function gets as gold.
        system: a system message, where a chat has none.
        reward: place of the function, see `reward`; run when the first response is judged, or by `warm_up`.
        correct_at: the reward from which on a response is correct.
    """

    name: ClassVar[str] = "prompts"
    is_users: ClassVar[bool] = True

    def __init__(
        self,
        *,
        files: Mapping[tuple[str, str], Path] | None = None,
        prompt_column: str = "prompt",
        gold_column: str = "gold",
        system: str | None = None,
        reward: str,
        correct_at: float = 1.0,
    ) -> None:
        self._files = dict(files or {})
        self._columns = ColumnNames(prompt_column, gold_column, system)
        self._reward = Reward(code.absolute(reward, Path.cwd()), correct_at)

    @property
    def subsets(self) -> tuple[str, ...]:
        """The names of the files."""
        return tuple(dict.fromkeys(subset for _, subset in self._files))

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """`count` prompts of a file drawn with this seed, or all of them, in the file's order.

        Raises:
            ValueError: there is no such file, it is no data file, a row is at fault, or it has fewer
                different prompts.
        """
        if (split, subset) not in self._files:
            known = ", ".join("/".join(key) for key in self._files) or "none"
            raise ValueError(f"no data file is named {split}/{subset}; there is {known}")
        path = self._files[split, subset]
        asked = _asked(path, self._columns)
        if count is None:
            count = len(asked)
        if count > len(asked):
            raise ValueError(f"{path} has {len(asked)} different prompts, fewer than {count}")
        drawn = np.random.default_rng(seed).permutation(len(asked))[:count]
        return [self.prompt(asked[index].messages, asked[index].gold, subset) for index in np.sort(drawn)]

    def warm_up(self) -> None:
        """Load the function's file now, outside of a check's time limit.

        Raises:
            CodeError, RewardError: it cannot be loaded, or not be called.
        """
        self._reward.load()

    def verify(self, response: str, gold: str) -> Verdict:
        """What the function says; it may take any time and raise anything.

        Args:
            gold: of `prompts`; what callers of a service write otherwise, a JSON object or any text, the
                function gets as it is, with an empty row.
        """
        try:
            fields = json.loads(gold)
        except ValueError:
            fields = gold
        if isinstance(fields, dict) and "gold" in fields:
            return self._reward(response, fields["gold"], fields.get("row", {}))
        return self._reward(response, fields if isinstance(fields, dict) else gold, {})

    def failed(self, gold: str) -> Verdict:
        """Nothing, whatever the gold."""
        return Verdict(0.0, {PART: 0.0}, False, "")


@functools.lru_cache(maxsize=4)
def _asked(path: Path, columns: ColumnNames) -> list[Row]:
    """The different prompts of a file; read once for several draws: a run's files don't change under it."""
    found: dict[str, Row] = {}
    for where, row in reading.rows(path):
        try:
            asked = _read(where, row, columns)
        except ValueError as error:
            raise ValueError(f"{path}, {where}: {error}") from error
        before = found.setdefault(prompt_id(Prompts.name, asked.messages), asked)
        if before.answer != asked.answer:
            raise ValueError(
                f"{path}: {before.where} and {where} ask the same, with {columns.gold} {before.answer:.60} "
                f"and {asked.answer:.60}. Take one of them out"
            )
    if not found:
        raise ValueError(f"{path} has no rows")
    return list(found.values())


def _read(where: str, row: dict[str, Any], columns: ColumnNames) -> Row:
    """Raises ValueError: what is wrong with the row."""
    messages = _messages(_value(row, columns.prompt), columns.system)
    gold = _value(row, columns.gold)
    try:
        answer = json.dumps(gold, allow_nan=False, sort_keys=True, default=as_json)
    except ValueError as error:
        raise ValueError(f"{columns.gold} is {gold!r:.60}, which is or holds no finite number") from error
    return Row(messages, json.dumps({"gold": as_json(gold), "row": as_json(row)}), where, answer)


def _value(row: dict[str, Any], column: str) -> Any:
    if row.get(column) is None:
        found = f"nothing in column {column}" if column in row else f"there is no column {column}"
        raise ValueError(f"{found}; there is {', '.join(row)}")
    return row[column]


def _messages(asked: Any, system: str | None) -> list[dict[str, str]]:
    chat = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(chat, list) or not chat:
        raise ValueError(f"the prompt is neither a text nor a list of messages: {str(asked)[:60]!r}")
    messages: list[dict[str, str]] = []
    for message in chat:
        role, content = (
            (message.get("role"), message.get("content")) if isinstance(message, dict) else ("", 0)
        )
        if not isinstance(role, str) or not isinstance(content, str):
            raise ValueError(
                f"a message of the prompt has no role and content that are texts: {message!r:.60}"
            )
        messages.append({"role": role, "content": content})
    if messages[-1]["role"] == "assistant" or not messages[-1]["content"].strip():
        raise ValueError("the last message of the prompt is empty, or the assistant's own")
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    try:
        "".join(message["content"] for message in messages).encode()
    except UnicodeEncodeError as error:
        raise ValueError("the prompt holds half a character (a lone surrogate)") from error
    return messages


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
