r"""Takes an answer apart where it has parts: lists, tuples, sets, intervals, matrices, equations.

Only brackets and what stands between them are looked at; what a part means is `comparing`'s to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rlad_core.tasks.math.notation import closed_at

_AND = re.compile(
    r"\s*(?:\\text\{\s*,?\s*(?:and|or)\s*,?\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\(?:lor|vee|land|wedge)(?![A-Za-z]))\s*"
)
_THOUSANDS = re.compile(r"(?<![\d,.])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
_ENDS = {"(": ")", "[": "]", "\\{": "\\}"}
_MATRIX = re.compile(
    r"(?:\\left)?[(\[]?\s*\\begin\{(?P<kind>[pbB]?(?:small)?matrix|array)\}(?:\{[lcr|\s]*\})?(?P<body>.*)\\end\{(?P=kind)\}\s*(?:\\right)?[)\]]?",
    re.DOTALL,
)
_VARIABLE = r"(?:\\?[A-Za-z]+(?:_\{?\w+\}?)?'*)"
_NAME = re.compile(
    r"(?:"
    r"\\?[A-Za-z]+(?:_(?:\{[^{}]*\}|\w))?'*(?:\^\{-1\}|\^-1)?(?:\([^()=<>]*\))?"  # x, x_1, f(x)
    r"|\|[^|=]*[A-Za-z][^|=]*\||\\(?:angle|triangle|overline|text|vec|widehat)[ {][^=<>]*"  # |AB|, \angle ABC
    r"|[A-Z]{1,3}(?:_\{?\w+\}?)?\s*:\s*[A-Z]{1,3}(?:_\{?\w+\}?)?"  # AB:BC
    r"|\\frac\{[A-Za-z_\d{}]*[A-Z][A-Za-z_\d{}]*\}\{[A-Za-z_\d{}]*[A-Z][A-Za-z_\d{}]*\}"  # \frac{NO}{BO}
    r"|\(\s*" + _VARIABLE + r"(?:\s*,\s*" + _VARIABLE + r")+\s*\)"  # (x, y)
    r")\s*"
)
_EQUALS = re.compile(r"(?<![<>!:\\])=(?!=)|:=")
_IN = re.compile(r"\s*\\?[A-Za-z]+(?:\([a-z]\))?\s*\\in(?![A-Za-z])\s*(?P<rest>.+)", re.DOTALL)
_CONDITION = re.compile(
    r"\s*\\\{\s*[A-Za-z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid(?![A-Za-z])|\||:)\s*(?P<rest>.+?)\s*\\\}\s*",
    re.DOTALL,
)
_DOMAIN = re.compile(
    r"\s*(?:\\text\{\s*(?:where|for|with|for any|for all|any)\s*\}|where|for)?"
    r"\s*\\?[A-Za-z]\s*\\in\s*\\mathbb\s*\{?[A-Z]\}?(?:[\^_]\{?[+*]\}?)?\s*"
)
_RELATION = re.compile(r"(\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\lt(?![A-Za-z])|\\gt(?![A-Za-z])|<=|>=|<|>)")
_SIGN = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")
_ALONE = re.compile(r"\s*\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([a-z]\))?\s*")


@dataclass(frozen=True)
class Parts:
    """An answer with parts.

    kind: "list" without brackets, or how it is opened and closed: "()", "[)", "{}".
    items: the parts, plain texts.
    """

    kind: str
    items: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        """Whether the order of its parts counts."""
        return self.kind not in ("list", "{}")


@dataclass(frozen=True)
class Piece:
    """An interval: (closed, from, to, closed)."""

    left_closed: bool
    low: str
    high: str
    right_closed: bool


def listed(text: str) -> list[str]:
    """The parts of a text between commas, semicolons, "and" and "or" outside of brackets; at least one."""
    if not any(mark in text for mark in (",", ";", "and", "or", "\\lor", "\\vee", "\\wedge", "\\land")):
        return [text]
    if solutions := _solutions(text):
        return solutions
    text = _AND.sub(" ; ", _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text))
    return [
        part for part in (part.strip() for part in _split(text, ",;")) if part and not _DOMAIN.fullmatch(part)
    ] or [text]


def _solutions(text: str) -> list[str]:
    """x = 1, y = 2; x = 3, y = 4 as tuples; nothing where it is no such list."""
    rows = [[part.strip() for part in _split(row, ",")] for row in _split(text, ";")]
    if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return []
    sides = [[equation(part) for part in row] for row in rows]
    if any([name_key(side[0]) for side in row] != [name_key(side[0]) for side in sides[0]] for row in sides):
        return []
    if any(len(side) != 2 for row in sides for side in row):
        return []
    return [f"({', '.join(side[1] for side in row)})" for row in sides]


def bracketed(text: str) -> Parts | None:
    """A tuple, set or interval: one pair of brackets around all, with two parts or more, or a set of one."""
    text = text.strip()
    for opening in _ENDS:
        if not text.startswith(opening):
            continue
        inner = _inside(text, opening)
        if inner is None:
            return None
        content, closing = inner
        items = tuple(part.strip() for part in _split(content, ",;"))
        if len(items) < 2 and opening != "\\{":
            return None
        if not all(items):
            return None
        return Parts("{}" if opening == "\\{" else opening + closing, items)
    return None


def _inside(text: str, opening: str) -> tuple[str, str] | None:
    start = 1 if opening == "\\{" else 0
    end = closed_at(text, start) if opening != "\\{" else _closed_set(text)
    if end != len(text) - 1:
        return None
    closing = text[end]
    if opening == "\\{":
        return (text[2 : end - 1], "}") if text.endswith("\\}") else None
    return (text[1:end], closing) if closing in ")]" else None


def _closed_set(text: str) -> int:
    depth = 0
    for found in re.finditer(r"\\[{}]|[()\[\]{}]", text):
        depth += 1 if found[0][-1] in "([{" else -1
        if depth == 0:
            return found.end() - 1
    return -1


def matrix(text: str) -> list[list[str]] | None:
    """The rows of a matrix."""
    found = _MATRIX.fullmatch(text.strip())
    if found is None or "\\begin" in found["body"]:
        return None
    body = found["body"].replace("\\hline", "").strip().removesuffix("\\\\")
    return [[cell.strip() for cell in row.split("&")] for row in re.split(r"\\\\", body)]


def equation(text: str) -> list[str]:
    """The sides of an equation or a chain of them; one alone: it is none."""
    if "=" not in text:
        return [text]
    return [side.strip() for side in _EQUALS.split(text)]


def is_name(text: str) -> bool:
    """Whether the left side of an equation only says what the right side is: x, f(x), |AB|, \\angle ABC."""
    return _NAME.fullmatch(text.strip()) is not None


def name_key(text: str) -> str:
    """A name as it is compared."""
    return re.sub(r"[\s{}]", "", text)


def same_name(one: str, other: str) -> bool:
    """Whether two names may be of one thing: x and x, also x_1 and x."""
    first, second = name_key(one), name_key(other)
    return first == second or (
        "_" in first + second
        and not ("_" in first and "_" in second)
        and first.split("_")[0] == second.split("_")[0]
    )


def members(text: str) -> str:
    """What stands behind ``x \\in``, or the condition of a set that is given by one, or all."""
    found = _IN.fullmatch(text) or _CONDITION.fullmatch(text)
    return found["rest"] if found else text


def signs(text: str) -> list[str]:
    r"""The two answers that ``\pm`` stands for; one where there is none."""
    if not _SIGN.search(text):
        return [text]
    upper = re.sub(r"\\mp(?![A-Za-z])", "-", re.sub(r"\\pm(?![A-Za-z])", "+", text))
    lower = re.sub(r"\\mp(?![A-Za-z])", "+", re.sub(r"\\pm(?![A-Za-z])", "-", text))
    return [re.sub(r"(^|[=,(])\s*\+\s*", r"\1", upper), lower]


def pieces(text: str) -> list[Piece] | None:
    """The intervals of a union, or of an inequality with one variable alone; None: it is neither."""
    text = members(text.strip())
    if "\\cup" in text:
        parts = re.split(r"\\cup(?![A-Za-z])", text)
    elif _RELATION.search(text):
        parts = [part for part in _AND.split(text) if part.strip()]
        if len(parts) == 1 and "," in text:
            parts = text.split(",")
            if None in (names := {variable(part) for part in parts}) or len(names) > 1:
                return None
        elif len(parts) > 1 and not re.search(r"\bor\b|\\lor|\\vee", text):
            return None
    else:
        parts = [text]
    found = [_piece(part.strip()) for part in parts]
    return None if any(each is None for each in found) else [each for each in found if each is not None]


def _piece(text: str) -> Piece | None:
    if _RELATION.search(text):
        return _inequality(text)
    parts = bracketed(text)
    if (
        parts is None
        or len(parts.items) != 2
        or parts.kind not in ("()", "(]", "[)", "[]")
        or text.startswith("\\")
    ):
        return None
    return Piece(parts.kind[0] == "[", *parts.items, parts.kind[1] == "]")


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
    """The variable of an inequality, where it names one alone."""
    if not _RELATION.search(text):
        return None
    alone = [each.strip() for each in _RELATION.split(text)[::2] if _ALONE.fullmatch(each)]
    return alone[0] if len(alone) == 1 else None


def _split(text: str, marks: str) -> Iterator[str]:
    depth, begin = 0, 0
    for position, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and character in marks and text[position - 1 : position] != "\\":
            yield text[begin:position]
            begin = position + 1
    yield text[begin:]
