r"""Whether an answer is the gold one: what is cheap and exact first, the algebra last.

    the same text                       right, without looking at it as mathematics
    single numbers                      `numbers`, exactly; a tolerance holds where the recipe sets one
    choices and words                   `words`
    lists, tuples, sets, intervals      `shapes`, part by part
    equations                           x = 5 is 5, for x only names it; 8 = 7 is nothing
    a number with a unit                `units`
    all else                            `algebra`

docs/verifiers.md is the same as policy, with examples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from rlad_core.tasks.math import algebra, marks, quantities, shapes
from rlad_core.tasks.math.estimate import surely_different
from rlad_core.tasks.math.judging import Where
from rlad_core.tasks.math.notation import Unreadable, plain
from rlad_core.tasks.math.numbers import Number, european, number
from rlad_core.tasks.math.units import same_words
from rlad_core.tasks.math.words import choice, is_product, labelled, same_word, word

Part = TypeVar("Part")

_TEXT = re.compile(r"\\text\{\s*([^{}]*?)\s*\}")
_TIGHT = re.compile(r"(?<![0-9A-Za-z,}]) | (?![0-9A-Za-z{])")
_SIDE_BY_SIDE = re.compile(r"(?<![a-z{}_^\\])\d \d")
_DEPTH = 6


@dataclass(frozen=True)
class Tolerance:
    """How far an answer that is a number may be from the gold one.

    relative: of the gold number; 0: not at all.
    where: "rounded": only where the gold answer is written with a decimal point; "any": everywhere.
    """

    relative: float = 0.0
    where: Where = "rounded"

    def allows(self, gold: Number, value: Fraction) -> bool:
        """Whether a number this near counts."""
        if not self.relative or not (gold.decimal or self.where == "any"):
            return False
        return abs(value - gold.value) <= Fraction(self.relative) * abs(gold.value)


EXACT = Tolerance()


@dataclass(frozen=True)
class Comparison:
    """Compares gold answers with given ones. As with `algebra.equal`, it may not come back."""

    tolerance: Tolerance = EXACT

    def __call__(self, gold: str, answer: str) -> bool:
        """Whether an answer is the gold one.

        Raises:
            Unreadable: one of them cannot be understood, and they are not the same text.
        """
        if gold.strip() == answer.strip():
            return True
        return self._same(_readable_gold(gold), plain(answer), 0)

    def _same(self, gold: str, answer: str, depth: int) -> bool:
        if gold == answer or _tight(gold) == _tight(answer):
            return True
        if depth > _DEPTH:
            raise Unreadable("parts of parts of parts")
        wanted, given = number(gold), number(answer)
        if wanted and given:
            return self._same_numbers(wanted, given)
        if (found := marks.same_marks(gold, answer, wanted, given)) is not None:
            return found
        said = self._same_words(gold, answer, depth)
        if said is not None:
            return said
        for compared in (self._same_shapes, self._same_equations, self._same_quantities):
            found = compared(gold, answer, depth)
            if found is not None:
                return found
        return self._same_algebra(gold, answer, wanted, given)

    def _same_numbers(self, gold: Number, answer: Number) -> bool:
        if gold.value == answer.value or (
            gold.percent is not answer.percent and gold.figure == answer.figure
        ):
            return True
        return self.tolerance.allows(gold, answer.value) or (
            gold.percent is not answer.percent
            and self.tolerance.allows(Number(gold.figure, False, gold.decimal), answer.figure)
        )

    def _same_words(self, gold: str, answer: str, depth: int) -> bool | None:
        """None: they are not to be compared as words."""
        chosen = choice(gold)
        if chosen is not None:
            other = choice(answer)
            if other is not None:
                return chosen == other
            written = labelled(answer)
            if written is not None:
                return chosen == written[0]
        else:
            label = labelled(gold)
            if label is not None and label[1]:
                other = choice(answer)
                if other is not None:
                    return label[0] == other
                written = labelled(answer)
                if written is not None:
                    return label[0] == written[0]
                return self._same(plain(label[1]), answer, depth + 1)
            if label is not None and (other := choice(answer)) is not None:
                return label[0] == other
        one, other = word(gold), word(answer)
        if one is not None and other is not None:
            return same_word(one, other)
        if (one is None) == (other is None):
            return None
        lone = gold if one is not None else answer
        if lone.startswith(("\\emptyset", "\\{", "\\infty", "+\\infty", "-\\infty", "\\mathbb", "(-\\infty")):
            return None
        rest = answer if one is not None else gold
        return (
            None
            if is_product(lone) or "=" in rest or quantities.has_unit(rest) or len(shapes.listed(lone)) > 1
            else False
        )

    # --- parts ----------------------------------------------------------------------------------------------

    def _same_shapes(self, gold: str, answer: str, depth: int) -> bool | None:
        wanted, given = _rows(gold), _rows(answer)
        if wanted is not None or given is not None:
            return self._same_rows(wanted, given, gold, answer, depth)
        pieces = self._same_pieces(gold, answer, depth)
        if pieces is not None:
            return pieces
        here, there = (_listed(text) for text in (gold, answer))
        if len(here) == len(there) == 1 and (here[0] != gold or there[0] != answer):  # a domain was named
            return self._same(plain(here[0]), plain(there[0]), depth + 1)
        if len(here) > 1 or len(there) > 1:
            return self._same_lists(here, there, gold, answer, depth)
        one, other = (shapes.bracketed(shapes.members(text)) for text in (gold, answer))
        if one is not None and other is not None:
            return self._same_parts(one, other, depth)
        if one is not None or other is not None:
            lone = one or other
            if lone is not None and len(lone.items) == 1:
                return self._same(
                    lone.items[0] if one else gold, lone.items[0] if other else answer, depth + 1
                )
        return None

    def _same_rows(
        self,
        wanted: list[list[str]] | None,
        given: list[list[str]] | None,
        gold: str,
        answer: str,
        depth: int,
    ) -> bool | None:
        sides = []
        for rows, text in ((wanted, gold), (given, answer)):
            if rows is None:
                tuple_ = shapes.bracketed(text)
                if tuple_ is None or not tuple_.ordered:
                    return None
                rows = [[item] for item in tuple_.items]
            sides.append(rows)
        one, other = sides
        if (wanted is None or given is None) and len(one) != len(other):  # a tuple is a row, or a column
            one, other = ([list(rows[0])] if len(rows) == 1 else [[row[0] for row in rows]] for rows in sides)
        if [len(row) for row in one] != [len(row) for row in other]:
            return False
        return all(
            self._same(plain(a), plain(b), depth + 1)
            for row, other_row in zip(one, other, strict=True)
            for a, b in zip(row, other_row, strict=True)
        )

    def _same_lists(
        self, here: list[str], there: list[str], gold: str, answer: str, depth: int
    ) -> bool | None:
        if len(here) == 1:
            parts = shapes.bracketed(_bare(gold))
            if parts is not None and len(parts.items) == len(there) and _is_list(parts):
                return self._same_items(parts.items, tuple(there), parts.ordered, depth)
            return self._same_comma(number(gold), answer)
        if len(there) == 1:
            parts = shapes.bracketed(_bare(answer))
            if parts is not None and len(parts.items) == len(here) and _is_list(parts):
                return self._same_items(tuple(here), parts.items, parts.ordered, depth)
            given = number(answer)
            with_comma = re.fullmatch(r"-?(?:0,\d+|\d+,(?:\d{2}|\d{4,}))", gold)
            return bool(given and with_comma and (comma := european(gold)) and comma.value == given.value)
        if len(here) != len(there):
            return False
        names = [len(_names(items)) for items in (here, there)]
        # "1, 2" for "x = 1, y = 2": the names said which is which, so the order does.
        return self._same_items(tuple(here), tuple(there), max(names) > 1 and min(names) == 0, depth)

    def _same_comma(self, gold: Number | None, answer: str) -> bool:
        """3,14 for a gold of 3.14: no list is meant where the gold answer is one number with a point."""
        comma = european(answer.replace(" ", "") if gold and gold.decimal else answer)
        if gold is None or comma is None or re.fullmatch(r"-?[1-9]\d{0,2},\d{3}", answer):
            return False
        return gold.decimal and self._same_numbers(gold, comma)

    def _same_parts(self, one: shapes.Parts, other: shapes.Parts, depth: int) -> bool:
        square = {one.kind, other.kind} & {"[]", "[)", "(]"}
        if square and one.kind != other.kind and len(one.items) == 2:
            return False
        return self._same_items(one.items, other.items, one.ordered or other.ordered, depth)

    def _same_items(self, wanted: Sequence[str], given: Sequence[str], ordered: bool, depth: int) -> bool:
        if len(wanted) != len(given):
            return False
        here, there = ([plain(item) for item in items] for items in (wanted, given))
        if ordered:
            return all(self._same_item(one, other, depth) for one, other in zip(here, there, strict=True))
        return _paired(here, there, lambda one, other: self._same_item(one, other, depth))

    def _same_item(self, one: str, other: str, depth: int) -> bool:
        try:
            return self._same(one, other, depth + 1)
        except Unreadable:
            return False

    def _same_pieces(self, gold: str, answer: str, depth: int) -> bool | None:
        """Intervals and inequalities."""
        wanted, given = shapes.pieces(gold), shapes.pieces(answer)
        if wanted is None or given is None:
            return None
        if len(wanted) != len(given):
            return None
        here, there = shapes.variable(gold), shapes.variable(answer)
        if here is not None and there is not None and here != there:
            return False
        if len(wanted) == 1 and "\\infty" not in gold + answer and not here and not there:
            return None  # two tuples, as likely
        return _paired(wanted, given, lambda one, other: self._same_piece(one, other, depth))

    def _same_piece(self, one: shapes.Piece, other: shapes.Piece, depth: int) -> bool:
        if (one.left_closed, one.right_closed) != (other.left_closed, other.right_closed):
            return False
        return self._same_item(one.low, other.low, depth) and self._same_item(one.high, other.high, depth)

    # --- equations ------------------------------------------------------------------------------------------

    def _same_equations(self, gold: str, answer: str, depth: int) -> bool | None:
        here, there = shapes.equation(gold), shapes.equation(answer)
        gold_member, answer_member = shapes.members(gold), shapes.members(answer)
        if gold_member != gold or answer_member != answer:
            return self._same(gold_member, answer_member, depth + 1)
        if len(here) == 1 and len(there) == 1:
            return self._same_approximations(gold, answer, depth)
        named = [shapes.is_name(sides[0]) and len(sides) > 1 for sides in (here, there)]
        if all(named):
            if not shapes.same_name(here[0], there[0]):
                return None if len(here) == len(there) == 2 else False
            return self._same_chain(here[1:], there[1:], depth)
        if len(here) == 1:
            if named[1]:
                return self._same_chain(here, there[1:], depth)
            return self._same_chain(here, there, depth)
        if len(there) == 1:
            return self._same_chain(here[1:], there, depth) if named[0] else False
        return None

    def _same_chain(self, here: list[str], there: list[str], depth: int) -> bool:
        """The last of a chain counts, and what it says to be equal to it has to be."""
        wanted = plain(here[-1])
        return all(self._same_item(wanted, plain(side), depth) for side in reversed(there) if side)

    def _same_approximations(self, gold: str, answer: str, depth: int) -> bool | None:
        """What is called approximately equal is a remark."""
        if "\\approx" not in gold + answer:
            return None
        here, there = (re.split(r"\\approx(?![A-Za-z])", text) for text in (gold, answer))
        return any(
            self._same_item(plain(one), plain(other), depth)
            for one in here
            for other in there
            if one.strip() and other.strip()
        )

    # --- units ----------------------------------------------------------------------------------------------

    def _same_quantities(self, gold: str, answer: str, depth: int) -> bool | None:
        (wanted, gold_unit), (given, answer_unit) = quantities.quantity(gold), quantities.quantity(answer)
        if wanted == gold and given == answer:
            return None
        if gold_unit is None or answer_unit is None:
            return self._same(wanted, given, depth + 1)
        if gold_unit.noun or answer_unit.noun:
            if not (gold_unit.noun and answer_unit.noun and same_words(gold_unit, answer_unit)):
                return False
            return self._same(wanted, given, depth + 1)
        if gold_unit.dimension != answer_unit.dimension:
            return False
        factor = answer_unit.factor / gold_unit.factor
        if factor == 1:
            return self._same(wanted, given, depth + 1)
        one, other = number(wanted), number(given)
        if one and other:
            return self._same_numbers(one, Number(other.value * factor, other.percent, other.decimal))
        return self._same(wanted, f"\\frac{{{factor.numerator}}}{{{factor.denominator}}}({given})", depth + 1)

    # --- algebra --------------------------------------------------------------------------------------------

    def _same_algebra(self, gold: str, answer: str, wanted: Number | None, given: Number | None) -> bool:
        for text, whose in ((gold, "gold "), (answer, "")):
            if _SIDE_BY_SIDE.search(text):
                raise Unreadable(f"the {whose}answer has numbers side by side")
            if "\\text" in text or _mostly_words(text):
                raise Unreadable(f"the {whose}answer has words in it, so only its very text is right")
        if not self.tolerance.relative and surely_different(gold, answer):
            return False
        try:
            algebra.read(gold)
        except Unreadable as fault:
            raise Unreadable(
                f"the gold answer {gold[:60]!r} is no mathematics, so only its very text is right"
            ) from fault
        if self.tolerance.relative and given is None and wanted is not None:
            near = algebra.decimal(answer)
            if near is not None and self.tolerance.allows(wanted, near):
                return True
        return algebra.equal(gold, answer)


def _paired(wanted: Sequence[Part], given: Sequence[Part], same: Callable[[Part, Part], bool]) -> bool:
    """Whether each part that is wanted has one of its own among those given, in any order."""
    rest = list(given)
    for one in wanted:
        found = next((other for other in rest if same(one, other)), None)
        if found is None:
            return False
        rest.remove(found)
    return True


def _tight(text: str) -> str:
    """Without blanks that separate nothing, and without saying which letters are text."""
    if "\\text" in text:
        text = re.sub(r"(\d) ([A-Za-z])", r"\1\2", _TEXT.sub(r"\1", text))
    return _TIGHT.sub("", text)


def _readable_gold(gold: str) -> str:
    try:
        return plain(gold)
    except Unreadable as fault:
        raise Unreadable(
            f"the gold answer {gold[:60]!r} has {fault}, so only its very text is right"
        ) from fault


def _rows(text: str) -> list[list[str]] | None:
    return shapes.matrix(text) if "\\begin" in text else None


def _listed(text: str) -> list[str]:
    """The parts of a list, with both answers of a plus-minus."""
    parts = [each for part in shapes.listed(text) for each in shapes.signs(part)]
    if any(part[0] != "(" for part in parts):
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


def _mostly_words(text: str) -> bool:
    return (
        re.search(r"(?<![\\A-Za-z])[A-Za-z]{3,}(?: [A-Za-z]+)+", re.sub(r"\\[A-Za-z]+", "", text)) is not None
    )
