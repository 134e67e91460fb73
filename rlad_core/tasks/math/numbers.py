r"""Reads single numbers exactly, without a computer algebra system; what it does not know is None.

5, -5, +5, (5), 007                 whole numbers
1,000  1 000  1{,}000               thousands; 1.234,5 and 1.234.567 in European notation
0.5, .5, 5.                         decimals
0.1\overline{6}, 0.1(6), 0.1666...  repeating decimals; dots repeat what stands there repeated
\frac{1}{2}, 1/2, 2\frac{2}{3}      fractions and mixed numbers, also 2 2/3
1.5\times10^{3}, 1.5e3, 10^3        scientific notation
2^{10}, 50%, five, 5 million        small powers, percentages, words
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from fractions import Fraction

from rlad_core.tasks.math.spoken import spoken

MAX_EXPONENT = 1000
MAX_DIGITS = 1000


@dataclass(frozen=True)
class Number:
    """A number as it was written.

    value: exactly what it says, of a percentage the hundredth part.
    percent: it is one.
    decimal: it has a decimal point, and no bar over what repeats: it may have been rounded.
    """

    value: Fraction
    percent: bool = False
    decimal: bool = False

    @property
    def figure(self) -> Fraction:
        """The number that stands before the percent sign, or alone."""
        return self.value * 100 if self.percent else self.value


_INTEGER = re.compile(r"\d+")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+")
_DECIMAL = re.compile(r"(?P<whole>\d*|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+)\.(?P<part>\d*)")
_EUROPEAN = re.compile(
    r"(?P<whole>[1-9]\d{0,2}(?:\.\d{3})+|[1-9]\d{0,2}(?: \d{3})+),(?P<part>\d+)"
    r"|(?P<only>[1-9]\d{0,2}(?:\.\d{3}){2,})"
)
_REPEATING = re.compile(
    r"(?P<whole>\d*)\.(?P<part>\d*)(?:\\overline\s*\{(?P<bar>\d+)\}|\((?P<parens>\d+)\)|\\dot\s*\{?(?P<dot>\d)\}?)"
)
_DOTS = re.compile(r"(?P<whole>\d*)\.(?P<part>\d*?)(?P<period>\d{1,9}?)(?P=period)+(?:\.{3}|…|\\l?dots)")
_FRACTION = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")
_SLASH = re.compile(r"([^/]+)/([^/]+)")
_MIXED = re.compile(r"(?P<whole>\d+)(?:\s*(?P<latex>\\frac\{\d+\}\{\d+\})| (?P<plain>\d+ ?/ ?\d+))")
_SCIENTIFIC = re.compile(
    r"(?P<mantissa>[-+]?[\d.,]+?)\s*(?:(?:\\times|\\cdot|\*|x|X)\s*10\s*\^\s*\{?\s*(?P<power>[-+]?\d{1,4})\s*\}?"
    r"|[eE](?P<short>[-+]?\d{1,4}))"
)
_POWER = re.compile(r"(?P<base>\d{1,4})\s*\^\s*(?:\{\s*(?P<power>-?\d{1,4})\s*\}|(?P<short>\d))")
_SCALE = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_SCALED = re.compile(r"(?P<number>.*\d)\s*(?:\\text\{\s*)?(?P<scale>" + "|".join(_SCALE) + r")\s*\}?", re.I)
_PERCENT = re.compile(
    r"\s*(?:%|\\text\{\s*(?:%|percent|per cent|pct\.?)\s*\}|(?<![A-Za-z])(?:percent|per cent|pct))$", re.I
)
_IN_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_PLAUSIBLE = re.compile(r"[-+(.\d\\]")


@functools.lru_cache(maxsize=4096)
def number(text: str) -> Number | None:
    """The number that a plain text is, and nothing else."""
    if len(text) > MAX_DIGITS:
        return None
    text = text.strip()
    if _PLAUSIBLE.match(text) is None or text.startswith("\\text{"):
        in_words = spoken(_IN_TEXT.sub(r"\1", text))
        return None if in_words is None else Number(in_words)
    if without := _PERCENT.search(text):
        figure = text[: without.start()].rstrip("\\ ")
        # Asked first, for of hundreds of signs each would be one call deeper.
        found = None if _PERCENT.search(figure) else number(figure)
        return None if found is None or found.percent else Number(found.value / 100, True, found.decimal)
    if text[0] == "(" and text[-1] == ")" and "(" not in text[1:]:
        return number(text[1:-1])
    if text[0] in "+-":
        found = number(text[1:]) if text[1:].lstrip()[:1] not in ("+", "-") else None
        if found is None:
            return None
        return found if text[0] == "+" else Number(-found.value, found.percent, found.decimal)
    return _unsigned(text)


def european(text: str) -> Number | None:
    """The number with a decimal comma that a text is when it is read so, such as 3,14."""
    found = re.fullmatch(r"([-+]?)(\d+),(\d+)", text)
    return None if found is None else number(f"{found[1]}{found[2]}.{found[3]}")


def _unsigned(text: str) -> Number | None:
    if _INTEGER.fullmatch(text):
        return Number(Fraction(int(text)))
    if _THOUSANDS.fullmatch(text):
        return Number(Fraction(int(re.sub("[, ]", "", text))))
    if (found := _DECIMAL.fullmatch(text)) and (found["whole"] or found["part"]):
        return _decimal(found["whole"], found["part"])
    if found := _EUROPEAN.fullmatch(text):
        return _decimal(re.sub("[. ]", "", found["whole"] or found["only"]), found["part"] or "")
    if found := _REPEATING.fullmatch(text):
        return _repeating(found["whole"], found["part"], found["bar"] or found["parens"] or found["dot"])
    if found := _DOTS.fullmatch(text):
        return _repeating(found["whole"], found["part"], found["period"])
    if found := _MIXED.fullmatch(text):
        part = number(found["latex"] or found["plain"])
        if part is None or not 0 < part.value < 1:
            return None
        return Number(int(found["whole"]) + part.value)
    if found := _FRACTION.fullmatch(text) or _SLASH.fullmatch(text):
        return _ratio(found[1], found[2])
    if found := _SCIENTIFIC.fullmatch(text):
        return _scientific(found["mantissa"], int(found["power"] or found["short"]))
    if found := _POWER.fullmatch(text):
        return _power(int(found["base"]), int(found["power"] or found["short"]))
    if found := _SCALED.fullmatch(text):
        front = number(found["number"])
        return front and Number(front.value * _SCALE[found["scale"].lower()], False, front.decimal)
    return None


def _decimal(whole: str, part: str) -> Number:
    digits = re.sub("[, ]", "", whole) + part
    return Number(Fraction(int(digits), 10 ** len(part)), decimal=bool(part))


def _repeating(whole: str, part: str, period: str) -> Number:
    exact = Fraction(int((whole or "0") + part), 10 ** len(part))
    return Number(exact + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(part)))


def _ratio(top: str, bottom: str) -> Number | None:
    above, below = number(top), number(bottom)
    if above is None or below is None or below.value == 0 or above.percent or below.percent:
        return None
    return Number(above.value / below.value)


def _scientific(mantissa: str, power: int) -> Number | None:
    front = number(mantissa)
    if front is None or abs(power) > MAX_EXPONENT:
        return None
    return Number(front.value * Fraction(10) ** power, False, front.decimal)


def _power(base: int, power: int) -> Number | None:
    if abs(power) > MAX_EXPONENT or (base == 0 and power <= 0):
        return None
    return Number(Fraction(base) ** power)
