r"""Reads intervals, unions of them, and inequalities of one variable.

[0,1), (-\infty,2)\cup(5,\infty)     as they are written
0 \le x < 1, x > 2                  [0,1) and (2,\infty)
x > 2 \text{ and } x < 5            (2,5)
x < 2 \text{ or } x > 5             (-\infty,2)\cup(5,\infty); a comma says the same
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlad_core.tasks.math.shapes import BOTH, EITHER, bracketed, entries, members

_RELATION = re.compile(r"(\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\lt(?![A-Za-z])|\\gt(?![A-Za-z])|<=|>=|<|>)")
_ALONE = re.compile(r"\s*\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([a-z]\))?\s*")


@dataclass(frozen=True)
class Piece:
    """An interval: (closed, from, to, closed)."""

    left_closed: bool
    low: str
    high: str
    right_closed: bool


def pieces(text: str) -> list[Piece] | None:
    """The intervals of a union, or of inequalities with one variable alone; None: it is neither."""
    text = members(text.strip())
    if "\\cup" in text:
        parts = re.split(r"\\cup(?![A-Za-z])", text)
    elif _RELATION.search(text):
        if len(entries(text)) > 1 and variable(text) is None:
            return None
        parts = EITHER.split(text) if conjunction(text) else text.split(",")
    else:
        parts = [text]
    found = [_piece(part.strip()) for part in parts]
    return None if any(each is None for each in found) else [each for each in found if each is not None]


def conjunction(text: str) -> str:
    """Whether inequalities are joined by "and" or by "or", which tells two answers apart; else nothing."""
    if not _RELATION.search(text):
        return ""
    return "or" if EITHER.search(text) else "and" if BOTH.search(text) else ""


def _piece(text: str) -> Piece | None:
    if _RELATION.search(text):
        return _meeting([_inequality(part.strip(" ,")) for part in BOTH.split(text)])
    parts = bracketed(text)
    if (
        parts is None
        or len(parts.items) != 2
        or parts.kind not in ("()", "(]", "[)", "[]")
        or text.startswith("\\")
    ):
        return None
    return Piece(parts.kind[0] == "[", *parts.items, parts.kind[1] == "]")


def _meeting(found: list[Piece | None]) -> Piece | None:
    """x > 2 and x < 5 as 2 < x < 5."""
    if len(found) == 1:
        return found[0]
    known = [each for each in found if each is not None]
    lower = [each for each in known if each.high == "\\infty"]
    upper = [each for each in known if each.low == "-\\infty"]
    if not len(found) == 2 == len(known) or not len(lower) == len(upper) == 1:
        return None
    return Piece(lower[0].left_closed, lower[0].low, upper[0].high, upper[0].right_closed)


def _inequality(text: str) -> Piece | None:
    terms = [part.strip() for part in _RELATION.split(text)]
    relations = [
        {"\\le": "<=", "\\ge": ">=", "\\lt": "<", "\\gt": ">"}.get(each, each) for each in terms[1::2]
    ]
    sides = terms[::2]
    if len(sides) == 2:
        if _ALONE.fullmatch(sides[1]) and not _ALONE.fullmatch(sides[0]):
            sides.reverse()
            relations = [relations[0].translate(str.maketrans("<>", "><"))]
        if not _ALONE.fullmatch(sides[0]):
            return None
        closed = relations[0].endswith("=")
        if relations[0][0] == "<":
            return Piece(False, "-\\infty", sides[1], closed)
        return Piece(closed, sides[1], "\\infty", False)
    if len(sides) != 3 or not _ALONE.fullmatch(sides[1]) or relations[0][0] != relations[1][0]:
        return None
    if relations[0][0] == ">":
        sides.reverse()
        relations.reverse()
    return Piece(relations[0].endswith("="), sides[0], sides[2], relations[1].endswith("="))


def variable(text: str) -> str | None:
    """The variable of an inequality, or of several, where they name one alone."""
    names = {_variable(part) for part in entries(text)}
    return names.pop() if len(names) == 1 else None


def _variable(text: str) -> str | None:
    if not _RELATION.search(text):
        return None
    alone = [each.strip() for each in _RELATION.split(text)[::2] if _ALONE.fullmatch(each)]
    return alone[0] if len(alone) == 1 else None
