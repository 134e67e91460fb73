"""Numbers in words: twenty-five, one half, three hundred and five, two million."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * (place + 2) for place, word in enumerate(_TENS)
}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_PARTS = {
    **{"half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7},
    **{"eighth": 8, "ninth": 9, "tenth": 10, "twelfth": 12, "hundredth": 100, "thousandth": 1000},
}
_WORD = re.compile(r"[A-Za-z]+")
_FIRST = re.compile(rf"(?:a |an )?(?:{'|'.join((*_SMALL, 'half', 'hundred'))})\b", re.IGNORECASE)
_MINUS = re.compile(r"\s*(?:minus|negative)\s+", re.IGNORECASE)
_LENGTH = 80


def spoken(text: str) -> Fraction | None:
    """The number that a text without commands is, in words; None: it is none."""
    sign = _MINUS.match(text)
    value, rest = leading(text[sign.end() :] if sign else text)
    if value is None or rest:
        return None
    return -value if sign else value


def leading(text: str) -> tuple[Fraction | None, str]:
    """The number in words that a text begins with, and what follows it; (None, the text): there is none."""
    text = text.strip()
    if len(text) > _LENGTH or _FIRST.match(text) is None:
        return None, text
    total, group, seen, position = 0, 0, False, 0
    for found in _WORD.finditer(text):
        if text[position : found.start()].strip(" -"):
            break
        word = found[0].lower()
        if word in _SMALL:
            group += _SMALL[word]
        elif word == "hundred":
            group = (group or 1) * 100
        elif word in _LARGE and seen:
            total, group = total + group * _LARGE[word], 0
        elif seen and (parts := _PARTS.get(word) or _PARTS.get(word.removesuffix("s"))):
            return Fraction(total + group, parts), text[found.end() :].strip(" .")
        elif word == "half" and not seen:
            return Fraction(1, 2), text[found.end() :].removeprefix(" of").strip(" .")
        elif word not in ("a", "an", "and") or (word == "and" and not _goes_on(text[found.end() :])):
            break
        seen = seen or word not in ("a", "an", "and")
        position = found.end()
    return (Fraction(total + group), text[position:].strip(" .-")) if seen else (None, text)


def _goes_on(text: str) -> bool:
    """Whether what stands behind an "and" is a number in words, too: three hundred and five."""
    found = _WORD.search(text)
    return found is not None and found[0].lower() in _SMALL
