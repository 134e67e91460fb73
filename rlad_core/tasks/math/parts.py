r"""Compares answers that have parts, which `shapes` and `intervals` take apart.

1,2,3 and {3,2,1}                   the same; no order, and every part counts
(3,4), x=3,y=4, A(3,4)              the same; in order
[0,1), 0 \le x < 1                 the same; who is open or closed counts
[[1,2],[3,4]]                       a matrix, where the other is one
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rlad_core.tasks.math import intervals, shapes
from rlad_core.tasks.math.notation import Unreadable, plain
from rlad_core.tasks.math.numbers import european, number
from rlad_core.tasks.math.pairing import paired

Same = Callable[[str, str], bool]
"""Whether two parts are the same."""

_THOUSANDS_OR_LIST = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+")
_LINKED_OTHERWISE = re.compile(rf"[,;]|{shapes.BOTH.pattern}")
_POINT = re.compile(r"(?P<name>[A-Z]'?)\s*[:=]?\s*(?P<place>\(.+,.+\))")


def same_parts(gold: str, answer: str, same: Same) -> bool | None:
    """Lists, tuples, sets, matrices, points, intervals; None: there is none of them.

    Args:
        gold, answer: plain texts.
        same: whether two parts are the same; `Unreadable` where one cannot be understood.
    """
    wanted, given = _rows(gold), _rows(answer)
    if wanted is not None or given is not None:
        return _same_rows(wanted or _nested(gold), given or _nested(answer), gold, answer, same)
    if (points := _same_points(gold, answer, same)) is not None:
        return points
    pieces = _same_pieces(gold, answer, same)
    if pieces is not None:
        return pieces
    if (named := _same_named(gold, answer, same)) is not None:
        return named
    here, there = (_listed(text) for text in (gold, answer))
    if len(here) == len(there) == 1 and (here[0] != gold or there[0] != answer):  # a domain was named
        return same(plain(here[0]), plain(there[0]))
    if len(here) > 1 or len(there) > 1:
        return _same_lists(here, there, gold, answer, same)
    one, other = (shapes.bracketed(shapes.members(text)) for text in (gold, answer))
    if one is not None and other is not None:
        return _same_brackets(one, other, same)
    if one is not None or other is not None:
        lone = one or other
        if lone is not None and len(lone.items) == 1:
            item = lone.items[0]
            return item != "\\emptyset" and same(item if one else gold, item if other else answer)
    return None


def _same_rows(
    wanted: list[list[str]] | None,
    given: list[list[str]] | None,
    gold: str,
    answer: str,
    same: Same,
) -> bool | None:
    sides = []
    for rows, text in ((wanted, gold), (given, answer)):
        if rows is None:
            tuple_ = shapes.bracketed(text)
            if tuple_ is None or tuple_.kind not in ("()", "[]"):
                return None
            rows = [[item] for item in tuple_.items]
        sides.append(rows)
    one, other = sides
    if (wanted is None or given is None) and len(one) != len(other):  # a tuple is a row, or a column
        one, other = ([list(rows[0])] if len(rows) == 1 else [[row[0] for row in rows]] for rows in sides)
    if [len(row) for row in one] != [len(row) for row in other]:
        return False
    return all(
        same(plain(a), plain(b))
        for row, other_row in zip(one, other, strict=True)
        for a, b in zip(row, other_row, strict=True)
    )


def _same_lists(here: list[str], there: list[str], gold: str, answer: str, same: Same) -> bool | None:
    if len(here) == 1:
        parts = shapes.bracketed(_bare(gold))
        if parts is not None and len(parts.items) == len(there) and _is_list(parts):
            return _same_items(parts.items, tuple(there), parts.ordered, same)
        if _THOUSANDS_OR_LIST.fullmatch(gold):  # "100,200" is a list where the answer is one
            return sorted(gold.split(",")) == sorted(there)
        if not _LINKED_OTHERWISE.search(shapes.EITHER.sub("", answer)):  # \\frac12 or 0.5, twice the same
            return all(same_item(gold, plain(item), same) for item in there)
        return _same_comma(gold, answer, same)
    if len(there) == 1:
        parts = shapes.bracketed(_bare(answer))
        if parts is not None and len(parts.items) == len(here) and _is_list(parts):
            return _same_items(tuple(here), parts.items, parts.ordered, same)
        given = number(answer)
        with_comma = re.fullmatch(r"-?\d+,(?:\d{2}|\d{4,})", gold)
        return bool(given and with_comma and (comma := european(gold)) and comma.value == given.value)
    if len(here) != len(there):
        return False
    names = [len(_names(items)) for items in (here, there)]
    # "1, 2" for "x = 1, y = 2": the names said which is which, so the order does.
    return _same_items(tuple(here), tuple(there), max(names) > 1 and min(names) == 0, same)


def _same_named(gold: str, answer: str, same: Same) -> bool | None:
    """(x, y) = (1, 2) and y = 2, x = 1, name by name; None: neither names its parts in a tuple."""
    if not any(re.match(r"\([^()=]+\)\s*=", text) for text in (gold, answer)):
        return None
    here, there = shapes.named(gold), shapes.named(answer)
    if not here or not there:
        return None
    meant = {name: next((each for each in there if shapes.same_name(name, each)), "") for name in here}
    if len(here) != len(there) or set(meant.values()) != set(there):
        return False
    return all(same_item(plain(value), plain(there[meant[name]]), same) for name, value in here.items())


def _same_comma(gold: str, answer: str, same: Same) -> bool:
    """3,14 for a gold of 3.14: no list is meant where the gold answer is one number with a point."""
    wanted = number(gold)
    if wanted is None or not wanted.decimal or re.fullmatch(r"-?[1-9]\d{0,2},\d{3}", answer):
        return False
    return european(answer) is not None and same(gold, answer.replace(",", "."))


def _same_points(gold: str, answer: str, same: Same) -> bool | None:
    """A(1,2), A = (1,2) and (1,2)."""
    here, there = _POINT.fullmatch(gold), _POINT.fullmatch(answer)
    if here and there:
        return here["name"] == there["name"] and same(here["place"], there["place"])
    if here:
        return None if shapes.bracketed(answer) is None else same(here["place"], answer)
    if there:
        return None if shapes.bracketed(gold) is None else same(gold, there["place"])
    return None


def _same_brackets(one: shapes.Parts, other: shapes.Parts, same: Same) -> bool:
    if one.ordered is not other.ordered:
        return False
    square = {one.kind, other.kind} & {"[]", "[)", "(]"}
    if square and one.kind != other.kind and len(one.items) == 2:
        return False
    return _same_items(one.items, other.items, one.ordered, same)


def _same_items(wanted: Sequence[str], given: Sequence[str], ordered: bool, same: Same) -> bool:
    if len(wanted) != len(given):
        return False
    here, there = ([plain(item) for item in items] for items in (wanted, given))
    if ordered:
        return all(same_item(one, other, same) for one, other in zip(here, there, strict=True))
    return paired(here, there, lambda one, other: same_item(one, other, same))


def same_item(one: str, other: str, same: Same) -> bool:
    """Whether two parts are the same; one that cannot be understood is not."""
    try:
        return same(one, other)
    except Unreadable:
        return False


def _same_pieces(gold: str, answer: str, same: Same) -> bool | None:
    """Intervals and inequalities."""
    if len({intervals.conjunction(gold), intervals.conjunction(answer)} - {""}) > 1:
        return False
    wanted, given = intervals.pieces(gold), intervals.pieces(answer)
    if wanted is None or given is None:
        return None
    here, there = intervals.variable(gold), intervals.variable(answer)
    if len(wanted) != len(given):
        return False if here and there else None
    if here is not None and there is not None and here != there:
        return False
    if len(wanted) == 1 and "\\infty" not in gold + answer and not here and not there:
        return None  # two tuples, as likely
    return paired(wanted, given, lambda one, other: _same_piece(one, other, same))


def _same_piece(one: intervals.Piece, other: intervals.Piece, same: Same) -> bool:
    if (one.left_closed, one.right_closed) != (other.left_closed, other.right_closed):
        return False
    return same_item(one.low, other.low, same) and same_item(one.high, other.high, same)


def _rows(text: str) -> list[list[str]] | None:
    return shapes.matrix(text) if "\\begin" in text else None


def _nested(text: str) -> list[list[str]] | None:
    """[[1, 2], [3, 4]] as rows."""
    outer = shapes.bracketed(text)
    rows = [shapes.bracketed(item) for item in outer.items] if outer and outer.kind == "[]" else []
    return [list(row.items) for row in rows if row] if rows and all(rows) else None


def _listed(text: str) -> list[str]:
    """The parts of a list, with both answers of a plus-minus."""
    parts = [each for part in shapes.by_axis(shapes.listed(text)) for each in shapes.signs(part)]
    if any(not part.startswith("(") for part in parts):
        return parts
    return list({part.replace(" ", ""): part for part in parts}.values())  # a solution given twice is one


def _bare(text: str) -> str:
    """What stands behind a tuple of names, or ``x \\in``."""
    sides = shapes.equation(shapes.members(text))
    return (
        sides[-1] if len(sides) == 2 and shapes.is_name(sides[0]) else sides[0] if len(sides) == 1 else text
    )


def _is_list(parts: shapes.Parts) -> bool:
    """Whether its parts may be meant alone: not those of an interval."""
    return parts.kind in ("()", "{}") or len(parts.items) > 2


def _names(items: Sequence[str]) -> set[str]:
    sides = [shapes.equation(item) for item in items]
    return {shapes.name_key(each[0]) for each in sides if len(each) > 1 and shapes.is_name(each[0])}
