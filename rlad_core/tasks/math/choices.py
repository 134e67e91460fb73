r"""Choices of a multiple-choice problem: B, (B), \text{(B) } 12, B. 12; and several of them.

The letter counts where both have one, and the content where one has no letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rlad_core.tasks.math.notation import plain

_CHOICE = re.compile(
    r"(?:(?i:option|choice)\s+)?(?:\\text\{\s*(?:(?i:option|choice)\s+)?)?\s*\(?\s*(?:\\text\{)?\s*\(?\s*([A-J])\s*\)?\s*\}?\s*\)?\s*\}?"
)
_LABELLED = re.compile(
    r"(?:(?:option|choice|answer)\s+)?"
    r"(?:\\text\{\s*\(?\s*([A-J])\s*(?:[).:]\s*)+\}|\\text\{\s*\(?\s*([A-J])\s*[).:]\s*|\(\s*(?:\\text\{)?\s*([A-J])\s*\}?\s*\)|([A-J])\s*[).:])"
    r"(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_OTHER_CHOICE = re.compile(
    r"(?:\b(?:and|or)\b|[,&/])\s*(?:\\text\{)?\s*\(?\s*[A-J]\b(?!\s*=)|\([A-J]\)"
    r"|(?<![A-Za-z\\])[A-J]\s*[).:](?=[\s}\d]|$)"
)
_APART = re.compile(r"\(?[A-Z]\)?(?:(?:,| |\band\b|\\text\{\s*and\s*\})+\(?[A-Z]\)?)+")


def same_choice(gold: str, answer: str, same: Callable[[str, str], bool]) -> bool | None:
    """Compare choices; None: the gold answer is none.

    Args:
        gold, answer: plain texts.
        same: whether the contents of two choices are the same.
    """
    chosen = choice(gold)
    if chosen is None and (label := labelled(gold)) is not None:
        if (other := choice(answer)) is not None:
            return label[0] == other
        if label[1]:
            written = labelled(answer)
            return label[0] == written[0] if written is not None else same(plain(label[1]), answer)
    if chosen is not None:
        if (other := choice(answer)) is not None:
            return chosen == other
        if (written := labelled(answer)) is not None:
            return chosen == written[0]
    return _same_letters(gold, answer)


def _same_letters(gold: str, answer: str) -> bool | None:
    """A, C and AC: several choices, or letters in an order; None: not one of each."""
    word, apart = (gold, answer) if gold.isalpha() else (answer, gold)
    if not (word.isalpha() and word.isupper()) or _APART.fullmatch(apart) is None:
        return None
    letters = re.findall(r"(?<![a-z])[A-Z](?![a-z])", apart)
    if apart == gold and len(set(letters)) == len(letters):  # a list, which has no order
        return sorted(word) == sorted(letters)
    return list(word) == letters


def choice(text: str) -> str | None:
    """The letter of a choice that a text is: B, (B), \text{(B)}."""
    found = _CHOICE.fullmatch(text.strip())
    return found[1] if found else None


def labelled(text: str) -> tuple[str, str] | None:
    """Letter and content of a choice that is written out, such as (B) 12."""
    found = _LABELLED.fullmatch(text.strip())
    if found is None:
        return None
    letter = (found[1] or found[2] or found[3] or found[4]).upper()
    rest = found["rest"].strip()
    if rest.endswith("}") and rest.count("{") < rest.count("}"):
        rest = rest[:-1].strip()
    return None if _OTHER_CHOICE.search(rest) else (letter, rest)
