r"""Parts a quantity into what is counted and the unit behind it, or before it.

5 cm, 5\text{ cm}, 5\,\mathrm{cm}^2      a number and a unit
36\pi\text{ in}^3, \frac12\text{ hours}  so with any value, where the unit stands in \text{}
\$5, 5\$, 5 \text{ dollars}              money
90^\circ, 3 \pmod 7                      degrees, and what it is modulo
5m, 5x, 5abc, 5 log x                    no unit: letters at a number are variables, or a function
\cos 60^\circ                            no unit: the degrees are the cosine's
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from rlad_core.tasks.math.notation import plain
from rlad_core.tasks.math.numbers import number
from rlad_core.tasks.math.spoken import leading
from rlad_core.tasks.math.units import DEGREE, RADIAN, Unit, same_words, unit
from rlad_core.tasks.math.words import FUNCTIONS

_MONEY = re.compile(
    r"(?P<sign>-?)\s*"
    r"(?P<unit>\\?\$|\\text\{\s*(?:\\?\$|£|€)\s*\}|£|€|¥|₹|(?:\\text\{)?\s*(?:Rs\.?|USD|EUR|GBP)\s*\}?)\s*"
    r"(?P<value>[-+\d.(\\].*)"
)
_POWER = r"(?:\s*\^\s*\{?-?\d\}?)?"
_WORDS = r"\\text\{[^{}]*\}" + _POWER
_BEHIND = re.compile(
    r"(?P<value>.*?[^\s\\])\s*"
    r"(?P<unit>(?:\^\\circ\s*(?:\\text\{\s*)?[CF]?\s*\}?"
    r"|\\pmod\s*\{?\w+\}?|\(\s*\\(?:mod|text\{\s*mod\s*\})\s*\w+\s*\)"
    r"|\\text\{\s*[^{}\d]*[A-Za-z$€£¢][^{}]*\}" + _POWER + r"(?:\s*(?:/|\\cdot|\s)\s*" + _WORDS + r")*"
    r"|\\\$|\$|€|£|¢))\s*",
    re.DOTALL,
)
_BARE = re.compile(
    r"(?P<value>[-+]?(?:\\frac\{[^{}]*\}\{[^{}]*\}|[\d.,/ ]|(?<=\d)[eE]-?(?=\d))*[\d.}])\s*"
    r"(?P<unit>[A-Za-z][A-Za-z.\-'()/ ]*(?:\^\{?\d\}?|\d)?(?:\s*/\s*[A-Za-z]+(?:\^\{?\d\}?)?)?)\s*"
)
_NO_UNIT = re.compile(
    r"\b(?:and|or|if|when|where|for|not|to|than|plus|minus|times|mod|with|but|is|are"
    r"|versus|vs|xor|then|else|otherwise|either|maybe|perhaps|possibly|alternatively"
    r"|(?:million|billion|thousand|hundred|trillion|dozen|ten)s?)\b",
    re.IGNORECASE,
)
_FRACTIONS = "half|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth|millionth"
_CHANGES = re.compile(
    r"\s*(?:\\text\{)?\s*(?:(?:squared|cubed|factorials?|doubled|tripled|quadrupled|halved|halves"
    r"|at most|at least|minimum|maximum|below|above|under|over|out of|divided|multiplied|raised"
    rf"|remainder|point\s)\b|(?:{_FRACTIONS})(?:s\b|\s*(?:of\b|\}}|$)))",
    re.IGNORECASE,
)
"""How words behind a number begin that make another number of it, or a bound; "5 cm squared" is none."""
_NUMBER_BEHIND = re.compile(r"[A-Za-z][^{}^]*\s\d")
"""Words that lead to another number, as in "5 in base 6"; "m/s2" is a unit."""
_VALUE = re.compile(r"\\(?:sqrt|pi|log|ln|frac|binom)|[!^]|\d")
_SCALED_UNIT = re.compile(
    r"\\text\{\s*(?P<scale>hundred|thousand|million|billion|trillion|dozen)\s+(?P<unit>[A-Za-z]+)\s*\}",
    re.IGNORECASE,
)
_IN_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_AMOUNT = re.compile(r"(?P<value>\d[\d.]*)\s*(?P<unit>[A-Za-z]+)\.?\s*(?:,|\band\b)?\s*")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")


def quantity(text: str) -> tuple[str, Unit | None]:
    """A plain text without the unit at its end or before it, and the unit; None: none, or it says nothing."""
    if money := _MONEY.fullmatch(text):
        inner, behind = quantity(plain(money["sign"] + money["value"]))
        return inner, behind or unit(_IN_TEXT.sub(r"\1", money["unit"]).replace("\\", ""))
    if (compound := _compound(text)) is not None:
        return compound
    in_words = _IN_TEXT.sub(r"\1", text)
    if in_words[:1].isalpha() and "\\" not in in_words:
        count, noun = leading(in_words)
        if count is not None and noun and not (_changed(noun) or noun.startswith("of ")):
            return f"\\frac{{{count.numerator}}}{{{count.denominator}}}", unit(noun)
        return text, None
    if "\\text" in text or "\\circ" in text or "mod" in text or text[-1:] in "$€£¢":
        found = _BEHIND.fullmatch(text)
        if found and not _changed(re.sub(r"\\p?mod|\bmod\b", "", found["unit"])) and _valued(found["value"]):
            return plain(found["value"]), unit(found["unit"])
        if found and (scaled := _SCALED_UNIT.fullmatch(found["unit"])) and number(found["value"]) is not None:
            return f"{found['value']} {scaled['scale']}", unit(scaled["unit"])
        return text, None
    found = _BARE.fullmatch(text)
    if found and not _changed(found["unit"]) and number(found["value"].strip()) is not None:
        name = found["unit"].strip()
        spaced = text[len(found["value"].rstrip()) :][:1] == " "
        if _is_measure(name, spaced=spaced) or (spaced and _is_noun(name)):
            return found["value"].strip(), unit(name)
    return text, None


def _changed(words: str) -> bool:
    """Whether words behind a number are no unit, since they say more of the number."""
    return bool(_NO_UNIT.search(words) or _CHANGES.match(words) or _NUMBER_BEHIND.search(words))


def _compound(text: str) -> tuple[str, Unit] | None:
    """3 hours 20 minutes, 5 ft 6 in, in the first of its units; None: it is nothing of the kind."""
    if text.count(" ") < 2 or not text[:1].isdigit():
        return None
    bare = _IN_TEXT.sub(r" \1 ", text).strip()
    found = list(_AMOUNT.finditer(bare))
    if not 2 <= len(found) <= 4 or "".join(each[0] for each in found) != bare:
        return None
    amounts = [(number(each["value"]), unit(each["unit"])) for each in found]
    first = amounts[0][1]
    total, last = Fraction(0), None
    for value, of in amounts:
        if value is None or of is None or first is None or of.noun or of.dimension != first.dimension:
            return None
        if last is not None and of.factor >= last:
            return None
        total, last = total + value.value * of.factor / first.factor, of.factor
    return (f"\\frac{{{total.numerator}}}{{{total.denominator}}}", first) if first else None


def _is_measure(name: str, *, spaced: bool) -> bool:
    """Whether letters behind a number are a unit and no variable: 5 m, 5 cm, 5cm, but not 5m."""
    known = unit(name)
    return known is not None and not known.noun and (spaced or name[1:2].isalpha())


def _is_noun(name: str) -> bool:
    """Whether what stands behind a number and a blank is words: no function, and without another number."""
    first = re.match(r"[A-Za-z]*", name)
    word = first[0].lower() if first else ""
    return len(word) > 2 and word not in FUNCTIONS and not re.search(r"\d", name)


def _valued(text: str) -> bool:
    if _TRIGONOMETRIC.search(text):  # the degrees are its argument's
        return False
    return _VALUE.search(text) is not None or re.fullmatch(r"[A-Za-z]", text.strip()) is not None


def has_unit(text: str) -> bool:
    """Whether there is a unit at the end of a text, or before it."""
    return quantity(text)[0] != text


def same_compounds(gold: str, answer: str, same: Callable[[str, str], bool]) -> bool | None:
    """As `same_quantities`, where one is given in several units; their "and" is that of no list."""
    if not any(_compound(text) for text in (gold, answer)):
        return None
    return same_quantities(gold, answer, same)


def same_quantities(gold: str, answer: str, same: Callable[[str, str], bool]) -> bool | None:
    """Compare what has a unit; None: neither has one.

    Args:
        gold, answer: plain texts.
        same: whether two values are the same.
    """
    (wanted, gold_unit), (given, answer_unit) = quantity(gold), quantity(answer)
    if wanted == gold and given == answer:
        return None
    if gold_unit is None or answer_unit is None:
        return _same_without(wanted, gold_unit, given, answer_unit, same)
    if gold_unit.noun or answer_unit.noun:
        both = gold_unit.noun and answer_unit.noun and same_words(gold_unit, answer_unit)
        return bool(both) and same(wanted, given)
    if {gold_unit.dimension, answer_unit.dimension} == {DEGREE, RADIAN}:
        in_degrees = gold_unit.dimension == DEGREE
        return same(radians(wanted), given) if in_degrees else same(wanted, radians(given))
    if gold_unit.dimension != answer_unit.dimension:
        return False
    factor = answer_unit.factor / gold_unit.factor
    if factor == 1:
        return same(wanted, given)
    number_given = number(given)
    if number_given and not number_given.percent:
        converted = number_given.value * factor
        return same(wanted, f"\\frac{{{converted.numerator}}}{{{converted.denominator}}}")
    return same(wanted, f"\\frac{{{factor.numerator}}}{{{factor.denominator}}}({given})")


def _same_without(
    wanted: str,
    gold_unit: Unit | None,
    given: str,
    answer_unit: Unit | None,
    same: Callable[[str, str], bool],
) -> bool:
    """One of the two has no unit, so that the other's is read over: but not where one is a percentage."""
    one, other = number(wanted), number(given)
    measured = [each is not None and not each.noun for each in (gold_unit, answer_unit)]
    if (one and one.percent and measured[1]) or (other and other.percent and measured[0]):
        return False
    # An angle in radians is written with no unit at all.
    if gold_unit and gold_unit.dimension == DEGREE and "\\pi" in given:
        return same(radians(wanted), given)
    if answer_unit and answer_unit.dimension == DEGREE and "\\pi" in wanted:
        return same(wanted, radians(given))
    return same(wanted, given)


def radians(degrees: str) -> str:
    """An angle of so many degrees without its unit."""
    return f"\\frac{{({degrees})\\pi}}{{180}}"
