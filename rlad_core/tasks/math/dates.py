r"""Days of the year: July 4, 1776; 4 July 1776; \text{July 4th, 1776}."""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:\s*,?\s*(?P<year>\d{4}))?"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day\s*,?\s*)?"
_DATES = tuple(
    re.compile(_WEEKDAY + form + _YEAR, re.IGNORECASE)
    for form in (rf"{_MONTH}\s*(?:the\s+)?{_DAY}", rf"(?:the\s+)?{_DAY}\s*(?:of\s+)?{_MONTH}")
)
_DRESS = re.compile(r"\\text\{|[{}]|\^")


def same_dates(gold: str, answer: str) -> bool | None:
    """Compare two days; None: one of the two texts is none. A year that only the answer has is read over."""
    if not any(character.isdigit() for character in gold) or not any(map(str.isalpha, gold)):
        return None
    wanted = _date(gold)
    given = _date(answer) if wanted else None
    if wanted is None or given is None:
        return None
    return wanted[:2] == given[:2] and wanted[2] in (None, given[2])


def _date(text: str) -> tuple[int, int, str | None] | None:
    text = _DRESS.sub(" ", text).strip(" .")
    for form in _DATES:
        if found := form.fullmatch(re.sub(r"\s+", " ", text)):
            return _MONTHS.index(found["month"][:3].lower()), int(found["day"]), found["year"]
    return None
