r"""Takes an answer apart where it has parts: lists, tuples, sets, matrices, equations.

Only brackets and what stands between them are looked at; what a part means is `comparing`'s to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rlad_core.tasks.math.notation import closed_at

BOTH, EITHER = (
    re.compile(
        rf"\\text\{{\s*,?\s*{word}\s*,?\s*\}}|(?<![A-Za-z\\]){word}(?![A-Za-z])|\\(?:{signs})(?![A-Za-z])"
    )
    for word, signs in (("and", "land|wedge"), ("or", "lor|vee"))
)
"""How "and" and "or" are written."""
_AND = re.compile(rf"\s*(?:{BOTH.pattern}|{EITHER.pattern})\s*")
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
    r"|\\(?:mathbb|mathcal)\s*\{?[A-Z]\}?(?:\([^()=<>]*\)|\[[^][=<>]*\])"  # \mathbb{P}(A)
    r"|\{[A-Za-z]\}(?:_(?:\{\w+\}|\w))?"  # \mathbf{v}
    r"|(?:\\Pr|[PE])\[[^][=<>]*\]"  # E[X]
    r"|\|[^|=]*[A-Za-z][^|=]*\|"  # |AB|
    r"|(?:m\s*)?\\(?:angle|triangle|overline|text|vec|widehat)[ {][^=<>]*"  # m\angle ABC
    r"|[A-Z]{1,3}(?:_\{?\w+\}?)?\s*:\s*[A-Z]{1,3}(?:_\{?\w+\}?)?"  # AB:BC
    r"|\\frac\{[A-Za-z_\d{}]*[A-Z][A-Za-z_\d{}]*\}\{[A-Za-z_\d{}]*[A-Z][A-Za-z_\d{}]*\}"  # \frac{NO}{BO}
    r"|\(\s*" + _VARIABLE + r"(?:\s*,\s*" + _VARIABLE + r")+\s*\)"  # (x, y)
    r")\s*"
)
_EQUALS = re.compile(r"(?<![<>!:\\])=(?!=)|:=")
_IN = re.compile(
    rf"\s*(?:\\?[A-Za-z]+(?:\([a-z]\))?|\(\s*{_VARIABLE}(?:\s*,\s*{_VARIABLE})+\s*\))"
    r"\s*\\in(?![A-Za-z])\s*(?P<rest>.+)",
    re.DOTALL,
)
_CONDITION = re.compile(
    r"\s*\\\{\s*[A-Za-z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid(?![A-Za-z])|\||:)\s*(?P<rest>.+?)\s*\\\}\s*",
    re.DOTALL,
)
_DOMAIN = re.compile(
    r"\s*(?:\\text\{\s*(?:where|for|with|for any|for all|any)\s*\}|where|for)?"
    r"\s*\\?[A-Za-z]\s*\\in\s*\\mathbb\s*\{?[A-Z]\}?(?:[\^_]\{?[+*]\}?)?\s*"
)
_SIGN = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")


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


def listed(text: str) -> list[str]:
    """The parts of a text between commas, semicolons, "and" and "or" outside of brackets; at least one."""
    if not any(mark in text for mark in (",", ";", "and", "or", "\\lor", "\\vee", "\\wedge", "\\land")):
        return [text]
    if solutions := _solutions(text):
        return solutions
    text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    parts = entries(text)
    if len(parts) < 2:  # an "and" in it belongs to what it says: 5 \text{ and a half}
        return [text]
    return [part for part in parts if not _DOMAIN.fullmatch(part)] or [text]


def entries(text: str) -> list[str]:
    """As `listed`, but every comma parts two, and nothing is left out."""
    return [part for part in (part.strip() for part in _split(_marked(text), ",;")) if part]


def _marked(text: str) -> str:
    """With semicolons for each "and" and "or" outside of brackets."""

    def mark(found: re.Match[str]) -> str:
        before = text[: found.start()]
        depth = sum((character in "([{") - (character in ")]}") for character in before)
        return found[0] if depth else " ; "

    return _AND.sub(mark, text)


def _solutions(text: str) -> list[str]:
    """x = 1, y = 2; x = 3, y = 4 as (x, y) = (1, 2) and (x, y) = (3, 4); nothing where it is no such list."""
    rows = [by_axis([part.strip() for part in _split(row, ",")]) for row in _split(text, ";")]
    if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return []
    sides = [[equation(part) for part in row] for row in rows]
    if any([name_key(side[0]) for side in row] != [name_key(side[0]) for side in sides[0]] for row in sides):
        return []
    if any(len(side) != 2 for row in sides for side in row):
        return []
    names = f"({', '.join(side[0] for side in sides[0])})"
    values = [f"({', '.join(side[1] for side in row)})" for row in sides]
    return [f"{names} = {each}" for each in values] if is_name(names) else values


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
        items = tuple(part.strip() for part in _split(_marked(content), ",;"))
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


def named(text: str) -> dict[str, str]:
    """What each name stands for in (x, y) = (1, 2), or x = 1, y = 2; nothing where it is neither."""
    sides = equation(text)
    if len(sides) == 2 and _NAME.fullmatch(sides[0]) and sides[0].startswith("("):
        names, values = bracketed(sides[0]), bracketed(sides[1])
        if names is None or values is None or values.kind != "()" or len(names.items) != len(values.items):
            return {}
        pairs = [[*pair] for pair in zip(names.items, values.items, strict=True)]
    else:
        pairs = [equation(part) for part in listed(text)]
        if len(pairs) < 2 or any(len(pair) != 2 or not is_name(pair[0]) for pair in pairs):
            return {}
    found = {name_key(name): value for name, value in pairs}
    return found if len(found) == len(pairs) else {}


def by_axis(parts: list[str]) -> list[str]:
    """Equations of x, y and z in the order of the point that they give; all others as they are."""
    is_point = all(re.match(r"[xyz]\s*=", part) for part in parts)
    return sorted(parts, key=lambda part: part[0]) if is_point else parts


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
    """What stands behind ``x \\in`` or ``(x, y) \\in``, or the condition of a set of that kind, or all."""
    found = _IN.fullmatch(text) or _CONDITION.fullmatch(text)
    return found["rest"] if found else text


def signs(text: str) -> list[str]:
    r"""The two answers that ``\pm`` stands for; one where there is none."""
    if not _SIGN.search(text):
        return [text]
    upper = re.sub(r"\\mp(?![A-Za-z])", "-", re.sub(r"\\pm(?![A-Za-z])", "+", text))
    lower = re.sub(r"\\mp(?![A-Za-z])", "+", re.sub(r"\\pm(?![A-Za-z])", "-", text))
    return [re.sub(r"(^|[=,(])\s*\+\s*", r"\1", upper), lower]


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
