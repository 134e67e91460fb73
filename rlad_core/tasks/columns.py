"""Which columns of a row hold what is asked and the right answer, under the names that people give them.

A recipe may name them (``columns: {prompt: question, gold: answer}``); else the names that are common are
tried in turn. A name with dots goes into a value: ``reward_model.ground_truth``.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

ASKED: Final = ("prompt", "question", "problem", "query", "instruction")
ANSWERED: Final = (
    "gold",
    "reward_model.ground_truth",
    "answer",
    "ground_truth",
    "final_answer",
    "expected_answer",
    "target",
    "solution",
)


def value_in(row: Mapping[str, Any], named: str | None, known: Sequence[str]) -> tuple[str, Any]:
    """A row's column and what it holds: the named one, or the first of the known ones with something in it.

    Raises:
        ValueError: there is no such column, or nothing in it.
    """
    for name in _spelled(row, known if named is None else (named,)):
        value = _lookup(row, name)
        if value is not None and (not isinstance(value, str) or value.strip()):
            return name, value
    names = [each for each in (known if named is None else (named,)) if _has(row, each)]
    if names:
        raise ValueError(f"nothing in column {' and '.join(names)}; there is {', '.join(map(str, row))}")
    raise ValueError(_missing(named, known, row))


def chosen(names: Iterable[str], named: str | None, known: Sequence[str]) -> list[str]:
    """The columns of a file that `value_in` would look into, where each row has the same.

    Raises:
        ValueError: there is none of them.
    """
    columns = dict.fromkeys(names, None)
    found = [_top(name, columns) for name in _spelled(columns, known if named is None else (named,))]
    if not found:
        raise ValueError(_missing(named, known, columns))
    return list(dict.fromkeys(found))


def unwritten(value: Any) -> Any:
    """The list or mapping that a text is, as JSON or as Python writes it: cells of CSV files hold them so.

    Returns:
        Any other value as it is.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return value


def _missing(named: str | None, known: Sequence[str], row: Iterable[Any]) -> str:
    names = list(known) if named is None else [named]
    wanted = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    said = f"there is no column {wanted}; there is {', '.join(map(str, row)) or 'nothing'}"
    return said if named is not None else f"{said}. Name yours: columns: {{prompt: ..., gold: ...}}"


def _spelled(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Those of the names that the row has, as it spells them (``Problem`` for ``problem``)."""
    found = [name for name in names if _top(name, row) in row]
    if len(found) == len(names):
        return found
    spelled = {str(name).casefold(): str(name) for name in reversed(list(row))}
    return [
        name if _top(name, row) in row else spelled[name.casefold()]
        for name in names
        if _top(name, row) in row or name.casefold() in spelled
    ]


def _top(name: str, row: Mapping[str, Any]) -> str:
    return name if name in row else name.partition(".")[0]


def _has(row: Mapping[str, Any], name: str) -> bool:
    return bool(_spelled(row, (name,))) and ("." not in name or name in row or _lookup(row, name) is not None)


def _lookup(row: Mapping[str, Any], name: str) -> Any:
    """What a column holds; None also where a name with dots leads nowhere."""
    if name in row:
        return row[name]
    head, dot, rest = name.partition(".")
    inside = unwritten(row.get(head)) if dot else None
    return _lookup(inside, rest) if isinstance(inside, Mapping) else None
