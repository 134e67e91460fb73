"""Why a response is wrong, in a word: what tables count and `rlad show` filters by."""

from typing import Final, Literal

Fault = Literal["", "cut off", "no answer", "format", "unreadable", "timed out", "wrong answer", "other"]

FORMLESS: Final = frozenset({"no answer", "format", "unreadable"})
"""Faults of the form: the response ended by itself, and no answer could be read from it."""

# What the shipped verifiers' reasons begin with, and those of checks that were ended; see docs/verifiers.md.
_BEGINNINGS: Final[tuple[tuple[str, Fault], ...]] = (
    ("no answer", "no answer"),
    ("form", "format"),
    ("unreadable", "unreadable"),
    ("wrong answer", "wrong answer"),
    ("several different answers", "wrong answer"),
)
_ENDED: Final = ("took longer", "took more than", "time limit", "timed out")


def fault_of(reason: str, *, correct: bool, finish_reason: str | None) -> Fault:
    """Why a response is wrong; "" where it is right.

    Args:
        reason: of the `Verdict`. That of a user's own task may say anything, and is then "other".
        finish_reason: "length" where the response was cut off, which is then why it is wrong; None: not told.
    """
    if correct:
        return ""
    if finish_reason == "length":
        return "cut off"
    for beginning, fault in _BEGINNINGS:
        if reason.startswith(beginning):
            return fault
    return "timed out" if any(words in reason for words in _ENDED) else "other"
