"""Rows of a data file as prompts: each prompt once, without those whose answers contradict each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from rlad_core import data
from rlad_core.data import Fault
from rlad_core.tasks.base import Prompt, prompt_id
from rlad_core.tasks.columns import chosen, unwritten, value_in

_CHAT = re.compile(r"\s*\[\s*\{\s*['\"](?:role|content)['\"]\s*:")
"""How a chat begins that stands in a text."""


@dataclass(frozen=True)
class AskedRow:
    """What a row asks.

    messages: the chat.
    gold: as it travels, see `Prompt`.
    answer: the right answer in one way of writing it: rows that ask the same must agree in it.
    golds: see `Prompt`.
    columns: that are kept for teachers, by name.
    """

    messages: list[dict[str, str]]
    gold: str
    answer: str
    golds: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)


class RowReader(Protocol):
    """How a task understands rows."""

    def choose(self, names: Sequence[str]) -> Sequence[str]:
        """Which of a file's columns it needs.

        Raises:
            ValueError: the file lacks one.
        """

    def read(self, values: dict[str, Any]) -> AskedRow:
        """What one row asks.

        Raises:
            ValueError: why it is no prompt.
        """


@dataclass(frozen=True)
class FileRows:
    """The different prompts of a path, in the order of its rows, and the rows that are none."""

    path: str
    rows: list[tuple[str, AskedRow]]
    """Each with its place."""
    faults: list[Fault]

    def draw(self, task: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """`count` prompts drawn with this seed, or all of them, in the file's order.

        Where the rows at fault are what lacks to `count`, it is all.

        Raises:
            ValueError: the file has fewer different prompts.
        """
        wanted = len(self.rows) if count is None else count
        if wanted > len(self.rows) + len(self.faults):
            raise ValueError(f"{self.path} has {len(self.rows)} different prompts, fewer than {wanted}")
        import numpy as np  # with a tenth of a second, which a recipe that is only checked does without

        drawn = np.random.default_rng(seed).permutation(len(self.rows))[:wanted]
        return [
            Prompt(
                prompt_id(task, row.messages),
                task,
                subset,
                row.messages,
                row.gold,
                where,
                row.answer,
                row.golds,
                row.columns,
            )
            for where, row in (self.rows[place] for place in np.sort(drawn))
        ]


@dataclass(frozen=True)
class FileSource:
    """Where rows come from.

    path: a file, a pattern, or a folder of the library `datasets`.
    encoding: of texts; None: UTF-8, or what a file's first bytes say.
    keep: columns that go with each prompt, for its teachers.
    """

    path: str
    encoding: str | None = None
    keep: tuple[str, ...] = ()


class SourcedFiles:
    """The files of a task by split and subset; each is read once, when it is asked for."""

    def __init__(self, files: Mapping[tuple[str, str], tuple[FileSource, RowReader]]) -> None:
        self._files = dict(files)
        self._read: dict[tuple[str, str], FileRows] = {}

    @property
    def subsets(self) -> tuple[str, ...]:
        """The names of the files."""
        return tuple(dict.fromkeys(subset for _, subset in self._files))

    def of(self, split: str, subset: str) -> FileRows:
        """The rows of a part.

        Raises:
            ValueError: there is no such part, or its file cannot be read.
        """
        part = (split, subset)
        if part not in self._files:
            known = ", ".join("/".join(key) for key in self._files) or "none"
            raise ValueError(f"no data file is named {split}/{subset}; there is {known}")
        if part not in self._read:
            source, reader = self._files[part]
            self._read[part] = read_file(source.path, source.encoding, reader, source.keep)
        return self._read[part]


def read_file(path: str, encoding: str | None, reader: RowReader, keep: Sequence[str] = ()) -> FileRows:
    """Read the rows of a path.

    Args:
        keep: see `FileSource`; a row that has nothing in one of them goes without.

    Raises:
        DataError: a file cannot be read, lacks a column, or has no rows.
    """
    faults: list[Fault] = []
    asked: dict[str, list[tuple[str, AskedRow]]] = {}

    def choose(names: Sequence[str]) -> Sequence[str]:
        kept = [column for name in keep for column in chosen(names, name, ())]
        return list(dict.fromkeys([*reader.choose(names), *kept]))

    for found in data.rows(path, encoding=encoding, choose=choose if keep else reader.choose):
        if isinstance(found, Fault):
            faults.append(found)
            continue
        try:
            row = reader.read(found.values)
            if keep:
                row = replace(row, columns=dict(_kept(found.values, keep)))
        except ValueError as error:
            faults.append(Fault(found.where, str(error)))
        except RecursionError:
            faults.append(Fault(found.where, "is nested too deeply to be read"))
        else:
            asked.setdefault(json.dumps(row.messages), []).append((found.where, row))
    rows: list[tuple[str, AskedRow]] = []
    for same in asked.values():
        if len({row.answer for _, row in same}) == 1:
            (where, row), golds = same[0], tuple(dict.fromkeys(each.gold for _, each in same))
            rows.append((where, replace(row, golds=golds) if len(golds) > 1 else row))
        else:
            faults += _contradictions(same)
    if not rows and not faults:
        raise data.DataError(f"{path} has no rows")
    return FileRows(path, rows, faults)


def _kept(values: Mapping[str, Any], keep: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for name in keep:
        with suppress(ValueError):  # there is nothing in it
            yield name, value_in(values, name, ())[1]


def _contradictions(same: Sequence[tuple[str, AskedRow]]) -> Iterator[Fault]:
    """None of them can be trusted more than another."""
    for where, row in same:
        there, other = next((place, each) for place, each in same if each.answer != row.answer)
        (file, _, line), mine = there.rpartition(", "), where.rpartition(", ")[0]
        answers = f"{row.answer:.60} and {other.answer:.60}"
        place = line if file == mine else there
        yield Fault(where, f"asks the same as {place} with another answer: {answers}")


def messages_of(asked: Any) -> list[dict[str, str]]:
    """A chat, from a text or from messages with role and content; other keys are left out.

    Args:
        asked: such messages may also stand in a text, see `unwritten`.

    Raises:
        ValueError: it is none that a model can answer.
    """
    if isinstance(asked, str) and _CHAT.match(asked):
        asked = unwritten(asked)
        if isinstance(asked, str):
            raise ValueError(
                f"the prompt begins like a chat that is written as text, and is none: {asked[:60]!r}"
            )
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
    try:
        "".join(text for message in messages for text in message.values()).encode()
    except UnicodeEncodeError as error:
        raise ValueError("the prompt holds half a character (a lone surrogate)") from error
    return messages
