r"""Repairs how an answer is written, where math-verify (0.9.0) would read something else or nothing.

    **73**, $73$, \(73\), 73.           the wrapping and the full stop go
    4\sqrt(2), √2, x**2, 1e3            4\sqrt{2}, \sqrt2, x^2, 1\times10^{3}
    2 2/3                               2\frac{2}{3}, a mixed number; read as 4/3 otherwise
    1\,000 or 1 000                     1000; read as a product otherwise
    50\,\%, 50\text{ percent}, 120°     50\%, 120^\circ
    5 7                                 unreadable: it would be read as 12

Nothing is repaired that is right already: `0,1` stays two numbers, `1,000` stays one.
"""

from __future__ import annotations

import re

MAX_LENGTH = 400
MAX_DEPTH = 12
"""The parser behind math-verify takes a minute for 300 nested braces; no published answer nests so deep."""

_BOLD = re.compile(r"(?<!\S)\*\*([^*]+)\*\*(?![\w*])")
_WRAPPINGS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"))
_END = re.compile(r"(?:[\s.,;:]|\\\\|\\[,;:! ])+$")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_NO_SPACE = re.compile(r"(?<!\\)\\!")
_SPACE = re.compile(r"(?:(?<!\\)\\[,;: ]|[~\s])+")
_PERCENT = re.compile(r"\s*(?:\\?%|\\(?:text|textrm|mathrm)\{\s*percent\s*\}|\bpercent\b)", re.IGNORECASE)
_EXPONENT = re.compile(r"(?<=\d)[eE]([+-]?\d{1,3})(?![\d.])")
_MIXED = re.compile(r"(?<![\d.,\\}])(\d{1,30}) (\d{1,30}) ?/ ?(\d{1,30})(?![\d.])")
_THOUSANDS = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?: \d{3}){1,20})(?![\d,]| \d)")
_SIDE_BY_SIDE = re.compile(r"(?<!frac )\d \d")


class Unreadable(Exception):
    """The answer cannot be compared; the message says why."""


def repaired(answer: str) -> str:
    """The answer in a notation that math-verify reads as it is meant.

    Raises:
        Unreadable: it is too long, too deep, or can be read in more than one way.
    """
    if len(answer) > MAX_LENGTH:
        raise Unreadable(f"{len(answer)} characters, more than {MAX_LENGTH}")
    if _CONTROL.search(answer):
        raise Unreadable("control characters")
    text = _unwrapped(answer)
    text = _SPACE.sub(" ", _NO_SPACE.sub("", text))
    text = _PERCENT.sub(r"\\%", text)
    text = text.replace("√", "\\sqrt").replace("°", "^\\circ").replace("**", "^")
    text = _EXPONENT.sub(r"\\times10^{\1}", text)
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(" ", ""), text)
    text = _braced_roots(text).strip()
    _check_depth(text)
    if _SIDE_BY_SIDE.search(text):
        raise Unreadable("numbers side by side")
    if not text:
        raise Unreadable("nothing in it")
    return text


def _unwrapped(text: str) -> str:
    before = None
    while text != before:
        before = text
        text = _BOLD.sub(r"\1", _END.sub("", text.strip()))
        for opening, closing in _WRAPPINGS:
            inner = text[len(opening) : len(text) - len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inner and opening not in inner:
                text = inner
    return text


def _braced_roots(text: str) -> str:
    r"""`\sqrt(...)` with braces in place of the parentheses."""
    parts: list[str] = []
    closings: list[str] = []  # what each open parenthesis is closed with
    position = 0
    while position < len(text):
        if text.startswith(("\\sqrt(", "\\sqrt ("), position):
            position = text.index("(", position) + 1
            parts.append("\\sqrt{")
            closings.append("}")
            continue
        character = text[position]
        if character == "(":
            closings.append(")")
        elif character == ")" and closings:
            character = closings.pop()
        parts.append(character)
        position += 1
    return "".join(parts)


def _check_depth(text: str) -> None:
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_DEPTH:
            raise Unreadable(f"brackets nested deeper than {MAX_DEPTH}")
