"""Numbers that are written with marks of their own: times of day, ratios, numerals of another base."""

from __future__ import annotations

import re
from fractions import Fraction

from rlad_core.tasks.math.notation import plain
from rlad_core.tasks.math.numbers import Number, number

_HALF = r"(?:\\text\{)?\s*[ap]\.?\s*m\.?\s*\}?"
_TIME = re.compile(rf"(?P<clock>\d{{1,2}}:\d{{2}}(?::\d{{2}})?)\s*(?P<half>{_HALF})?", re.IGNORECASE)
_HOUR = re.compile(rf"\d{{1,2}}(?=\s*{_HALF}$)", re.IGNORECASE)
_TO = re.compile(r"(?<=\d)\s*(?:\\text\{\s*to\s*\}|\bto\b)\s*(?=\d)")
_RATIO = re.compile(r"[^:=]+(?::[^:=]+)+")
_BASE = re.compile(
    r"\(?(?:\\text\{)?(?P<digits>[0-9A-Fa-f]+)\}?\)?_\{?\s*(?:\\text\{|\()?(?P<base>\d{1,2}|[a-z]{3,7})[})]?\s*\}?"
)


def same_marks(gold: str, answer: str, wanted: Number | None, given: Number | None) -> bool | None:
    """Times, ratios and numbers with a base; None: there is none of them."""
    if "_" in gold or "_" in answer:
        here, there = _BASE.fullmatch(gold), _BASE.fullmatch(answer)
        if here and there:
            bases = [number(each["base"]) for each in (here, there)]
            return here["digits"].lower() == there["digits"].lower() and bases[0] == bases[1]
        if here:
            return here["digits"].lower() == answer.lower() if re.fullmatch("[0-9A-Fa-f]+", answer) else None
        if there and re.fullmatch("[0-9A-Fa-f]+", gold):  # 12_3 is no 12
            return number(there["base"]) == Number(Fraction(10)) and there["digits"].lower() == gold.lower()
    if wanted and (hour := _HOUR.match(answer)):
        return wanted.value == int(hour[0])
    if ":" not in gold and ":" not in answer and not (_HOUR.match(gold) and _HOUR.match(answer)):
        return None  # also of 5 pm and 5000 fm, which are lengths
    gold, answer = (_TO.sub(":", _full_hour(text)) for text in (gold, answer))
    here, there = _TIME.fullmatch(gold), _TIME.fullmatch(answer)
    if here and there:
        halves = [
            re.sub("[^apm]", "", (each["half"] or "").replace("\\text", "").lower()) for each in (here, there)
        ]
        if here["clock"].lstrip("0") == there["clock"].lstrip("0"):
            return not (halves[0] and halves[1]) or halves[0] == halves[1]
        if (halves[0] == "pm" and not halves[1]) or (halves[1] == "pm" and not halves[0]):  # 15:15
            return _later(here, halves[0]) == _later(there, halves[1])
        return False
    if (here and here["half"] and given) or (there and there["half"] and wanted):
        return False  # a time of day is no ratio
    terms, others = _ratio(gold), _ratio(answer)
    if terms and others:
        return len(terms) == len(others) and all(
            a * others[0] == b * terms[0] for a, b in zip(terms, others, strict=True)
        )
    lone, rest = (terms, given) if terms else (others, wanted)
    if lone and len(lone) == 2 and lone[1] and rest:
        return lone[0] / lone[1] == rest.value
    return False if lone and rest else None


def _full_hour(text: str) -> str:
    """7 a.m. with its minutes; all else as it is."""
    found = _HOUR.match(text)
    return f"{found[0]}:00{text[found.end() :]}" if found else text


def _later(time: re.Match[str], half: str) -> str:
    """A time as a clock of 24 hours has it."""
    hours, _, rest = time["clock"].partition(":")
    return f"{int(hours) % 12 + 12 if half == 'pm' else int(hours)}:{rest}"


def _ratio(text: str) -> list[Fraction] | None:
    if _RATIO.fullmatch(text) is None:
        return None
    terms = [number(plain(term)) if term.strip() else None for term in text.split(":")]
    if any(term is None or term.value == 0 for term in terms):
        return None
    return [term.value for term in terms if term]
