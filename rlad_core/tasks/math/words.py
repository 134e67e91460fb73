r"""Answers that are words or letters: weekdays, names, yes and no, choices, and what has a sign of its own.

\text{Friday.}, Friday              the same word, whatever its case, its dress and its articles
TTF, TFT                            two words, not products of letters
\emptyset, \text{no solution}       the same; so are DNE and "does not exist", \infty and infinity,
                                    \mathbb{R} and "all real numbers"
"""

from __future__ import annotations

import re

_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_WORDY = re.compile(r"[^\W\d_][^\W\d_ .,'\"!?-]*(?:[ .,'\"!?-]+[^\W\d_]+)*[ .'\"!?]*")
_LETTERS = re.compile(r"[^\W\d_]+")
FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "log",
        "ln",
        "exp",
        "sqrt",
        "frac",
        "pi",
        "max",
        "min",
        "gcd",
        "lcm",
        "mod",
        "det",
        "and",
        "or",
        "abs",
    ]
)
_ARTICLES = frozenset(("a", "an", "the"))
_SAME = {
    text: group
    for group, texts in enumerate(
        (
            (
                *("emptyset", "no solution", "no solutions", "no real solution", "no real solutions", "none"),
                *("empty set", "there is no solution", "there are no solutions", "no roots", "no real roots"),
                *(
                    "no such number exists",
                    "no such integer exists",
                    "no solution exists",
                    "no solutions exist",
                    "no integer solutions",
                    "no such integers",
                    "no such integers exist",
                ),
            ),
            ("dne", "does not exist", "do not exist", "doesnt exist", "doesn t exist"),
            ("undefined", "not defined", "is undefined"),
            (
                "infty",
                "infinity",
                "positive infinity",
                "infinite",
                "infinitely many",
                "infinitely many solutions",
            ),
            ("minus infty", "negative infinity", "minus infinity"),
            ("mathbb r", "all real numbers", "all reals", "real numbers", "all real number", "reals"),
            ("yes", "true"),
            ("no", "false"),
        )
    )
    for text in texts
}
_SIGNS = {
    "\\emptyset": "emptyset",
    "\\{\\}": "emptyset",
    "\\{ \\}": "emptyset",
    "\\infty": "infty",
    "+\\infty": "infty",
    "-\\infty": "minus infty",
    "\\mathbb{R}": "mathbb r",
    "(-\\infty,\\infty)": "mathbb r",
    "(-\\infty, \\infty)": "mathbb r",
    "(-\\infty,+\\infty)": "mathbb r",
    "(-\\infty, +\\infty)": "mathbb r",
}


def word(text: str) -> str | None:
    """What a plain text says if it is nothing but words, in the form to be compared; None: it is more."""
    if (sign := _SIGNS.get(text.strip())) is not None:
        return sign
    in_text = "\\text{" in text
    bare = _TEXT.sub(r" \1 ", text).strip() if in_text else text
    if _WORDY.fullmatch(bare) is None:
        return None
    letters = [found.lower() for found in _LETTERS.findall(bare)]
    if (
        not in_text
        and letters != ["no"]
        and (
            any(each in FUNCTIONS for each in letters)
            or (len(letters) == 1 and (len(bare) == 1 or (len(bare) == 2 and not bare.isupper())))
            or all(len(each) == 1 for each in letters)
        )
    ):
        return None
    kept = [each for each in letters if each not in _ARTICLES] or letters
    return " ".join(kept)


def several(text: str) -> list[str] | None:
    """Words between commas and "and", sorted; None: there are not several, or they are no words."""
    if "and" not in text and "," not in text:
        return None
    parts = [part for part in re.split(r"\s*(?:,|\band\b|&)\s*", _TEXT.sub(r" \1 ", text).strip()) if part]
    # A single letter may be a variable, whose case counts; statements are numbered I, II and so on.
    words = [word(f"\\text{{{part}}}") if len(part) > 1 or part in "IVX" else None for part in parts]
    return sorted(filter(None, words)) if len(parts) > 1 and all(words) else None


def is_product(text: str) -> bool:
    """Whether bare letters may be meant as a product of variables, such as abc."""
    return re.fullmatch(r"[a-z]{2,4}", text.strip()) is not None


def same_word(one: str, other: str) -> bool:
    """Whether two answers of `word` say the same."""
    if one == other or one.replace(" ", "") == other.replace(" ", ""):
        return True
    if one in _SAME or other in _SAME:
        return _SAME.get(one) == _SAME.get(other)
    return False
