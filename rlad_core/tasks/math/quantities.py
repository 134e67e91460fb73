r"""Parts a quantity into what is counted and the unit behind it, or before it.

5 cm, 5\text{ cm}, 5\,\mathrm{cm}^2      a number and a unit
36\pi\text{ in}^3, \frac12\text{ hours}  so with any value, where the unit stands in \text{}
\$5, 5\$, 5 \text{ dollars}              money
90^\circ, 3 \pmod 7                      degrees, and what it is modulo
5m, 5x                                   no unit: a letter at a number is a variable
\cos 60^\circ                            no unit: the degrees are the cosine's
"""

from __future__ import annotations

import re

from rlad_core.tasks.math.notation import plain
from rlad_core.tasks.math.numbers import number
from rlad_core.tasks.math.units import Unit, unit

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
    r"(?P<value>[-+]?(?:\\frac\{[^{}]*\}\{[^{}]*\}|[\d.,/ ])*[\d.}])\s*"
    r"(?P<unit>[A-Za-z][A-Za-z.\-'()/ ]*(?:\^\{?\d\}?|\d)?(?:\s*/\s*[A-Za-z]+(?:\^\{?\d\}?)?)?)\s*"
)
_NO_UNIT = re.compile(
    r"\b(?:and|or|if|when|where|for|not|to|than|plus|minus|times|mod|with|but|is|are"
    r"|million|billion|thousand|hundred|trillion)\b",
    re.IGNORECASE,
)
_VALUE = re.compile(r"\\(?:sqrt|pi|log|ln|frac|binom)|[!^]|\d")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")


def quantity(text: str) -> tuple[str, Unit | None]:
    """A plain text without the unit at its end or before it, and the unit; None: none, or it says nothing."""
    if money := _MONEY.fullmatch(text):
        inner, behind = quantity(plain(money["sign"] + money["value"]))
        return inner, behind or unit(money["unit"].replace("\\", ""))
    if "\\text" in text or "\\circ" in text or "mod" in text or text[-1:] in "$€£¢":
        found = _BEHIND.fullmatch(text)
        if (
            found
            and not _NO_UNIT.search(re.sub(r"\\p?mod|\bmod\b", "", found["unit"]))
            and _valued(found["value"])
        ):
            return plain(found["value"]), unit(found["unit"])
        return text, None
    found = _BARE.fullmatch(text)
    if found and not _NO_UNIT.search(found["unit"]) and number(found["value"].strip()) is not None:
        name = found["unit"].strip()
        spaced = text[len(found["value"].rstrip()) :][:1] == " "
        letters = re.match(r"[A-Za-z]+", name)
        if letters and (len(letters[0]) > 2 or _is_measure(name, spaced=spaced)):
            return found["value"].strip(), unit(name)
    return text, None


def _is_measure(name: str, *, spaced: bool) -> bool:
    """Whether letters behind a number are a unit and no variable: 5 m, 5 cm, 5cm, but not 5m."""
    known = unit(name)
    return known is not None and not known.noun and (spaced or name[1:2].isalpha())


def _valued(text: str) -> bool:
    if _TRIGONOMETRIC.search(text):  # the degrees are its argument's
        return False
    return _VALUE.search(text) is not None or re.fullmatch(r"[A-Za-z]", text.strip()) is not None


def has_unit(text: str) -> bool:
    """Whether there is a unit at the end of a text, or before it."""
    return quantity(text)[0] != text
