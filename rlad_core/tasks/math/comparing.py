r"""Whether an answer is the gold one: what is cheap and exact first, the algebra last.

    the same text                       right, without looking at it as mathematics
    single numbers                      `numbers`, exactly; a tolerance holds where the recipe sets one
    times, ratios, bases, dates         `marks`, `dates`
    choices and words                   `choices`, `words`
    lists, tuples, sets, intervals      `parts`, part by part
    equations                           `equations`: x = 5 is 5, for x only names it; 8 = 7 is nothing
    a number with a unit                `quantities`
    all else                            read by `algebra`, compared by `equivalence`

docs/verifiers.md is the same as policy, with examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from rlad_core.tasks.math import algebra, equivalence, marks, quantities, shapes
from rlad_core.tasks.math.choices import same_choice
from rlad_core.tasks.math.dates import same_dates
from rlad_core.tasks.math.equations import same_equations
from rlad_core.tasks.math.estimate import surely_different
from rlad_core.tasks.math.judging import Where
from rlad_core.tasks.math.notation import Unreadable, plain
from rlad_core.tasks.math.numbers import Number, number
from rlad_core.tasks.math.parts import same_parts
from rlad_core.tasks.math.words import is_product, same_word, several, word

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
    """Compares gold answers with given ones. As with `equivalence.equal`, it may not come back."""

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

        for found in self._looks(gold, answer, wanted, given, depth):
            if found is not None:
                return found
        return self._same_algebra(gold, answer, wanted, given)

    def _looks(
        self, gold: str, answer: str, wanted: Number | None, given: Number | None, depth: int
    ) -> Iterator[bool | None]:
        """What each kind of answer says of the two, cheap kinds first; None: they are not of that kind."""

        def same(one: str, other: str) -> bool:
            return self._same(one, other, depth + 1)

        yield marks.same_marks(gold, answer, wanted, given)
        yield same_dates(gold, answer)
        yield same_choice(gold, answer, same)
        yield _same_words(gold, answer)
        yield quantities.same_compounds(gold, answer, same)
        yield same_parts(gold, answer, same)
        yield same_equations(gold, answer, same)
        yield quantities.same_quantities(gold, answer, same)

    def _same_numbers(self, gold: Number, answer: Number) -> bool:
        # 50 may be meant as 50%, but a gold answer below 1 is a proportion already: 0.5 is not 0.5%.
        sign_apart = gold.percent or (answer.percent and abs(gold.value) >= 1)
        as_figures = gold.percent is not answer.percent and sign_apart
        if gold.value == answer.value or (as_figures and gold.figure == answer.figure):
            return True
        return self.tolerance.allows(gold, answer.value) or (
            as_figures and self.tolerance.allows(Number(gold.figure, False, gold.decimal), answer.figure)
        )

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
        return equivalence.equal(gold, answer)


def _same_words(gold: str, answer: str) -> bool | None:
    """None: they are not to be compared as words."""
    if (names := several(gold)) is not None and (others := several(answer)) is not None:
        return names == others
    one, other = word(gold), word(answer)
    if one is not None and other is not None:
        return same_word(one, other)
    if (one is None) == (other is None):
        return None
    lone, rest = (gold, answer) if one is not None else (answer, gold)
    if lone.startswith(("\\emptyset", "\\{", "\\infty", "+\\infty", "-\\infty", "\\mathbb", "(-\\infty")):
        return None
    means_more = (
        *(
            is_product(lone),
            "=" in rest,
            "\\in" in rest,
            quantities.has_unit(rest),
            quantities.has_unit(lone),
        ),
        len(shapes.listed(lone)) > 1,
    )
    return None if any(means_more) else False


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


def _mostly_words(text: str) -> bool:
    return (
        re.search(r"(?<![\\A-Za-z])[A-Za-z]{3,}(?: [A-Za-z]+)+", re.sub(r"\\[A-Za-z]+", "", text)) is not None
    )
