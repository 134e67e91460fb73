r"""Estimates plain arithmetic, to refuse in microseconds what the algebra would refuse in milliseconds.

It reads numbers, single letters, \pi, e, + - * / ^, fractions, roots and parentheses, and gives up on
all else. Letters get fixed values. It never accepts: what is near each other is left to the algebra.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<command>\\(?:frac|sqrt|pi|cdot|times))(?![A-Za-z])|(?P<letter>[a-zA-Z])"
    r"|(?P<mark>[-+*/^(){}\[\]]))"
)
_END = ("end", "")
_FAR = 1e-6
_CANCELLED = 1e-8
"""Of its largest term, less than which a sum in double precision says too little."""
_MAX_LENGTH = 200


class _Unknown(Exception):
    """It is more than plain arithmetic."""


def surely_different(one: str, other: str) -> bool:
    """Whether two plain texts are arithmetic with values that are clearly not the same."""
    first, second = estimate(one), estimate(other)
    if first is None or second is None:
        return False
    return abs(first - second) > _FAR * max(abs(first), abs(second))


def estimate(text: str) -> float | None:
    """The value of a plain text; None: it is not plain arithmetic, or its value is not usual."""
    if len(text) > _MAX_LENGTH:
        return None
    try:
        tokens = _Tokens(text)
        value = _sum(tokens)
    except (_Unknown, ArithmeticError, ValueError):
        return None
    usual = value == 0 or 1e-12 < abs(value) < 1e12  # also not infinite, and a number
    return value if usual and tokens.kind == "end" else None


class _Tokens:
    """The tokens of a text, one ahead."""

    def __init__(self, text: str) -> None:
        self._rest = self._read(text.strip())
        self.kind, self.next = next(self._rest, _END)

    def advance(self) -> str:
        """The next token, which is taken."""
        taken = self.next
        self.kind, self.next = next(self._rest, _END)
        return taken

    def take(self, mark: str) -> None:
        """The mark that has to come next."""
        if self.advance() != mark:
            raise _Unknown

    @staticmethod
    def _read(text: str) -> Iterator[tuple[str, str]]:
        position = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise _Unknown
            position = found.end()
            yield found.lastgroup, found[found.lastgroup]


def _sum(tokens: _Tokens) -> float:
    value = _product(tokens)
    largest = abs(value)
    while tokens.next in ("+", "-"):
        term = _product(tokens) if tokens.advance() == "+" else -_product(tokens)
        value += term
        largest = max(largest, abs(term))
    if abs(value) < _CANCELLED * largest:  # what is left may be rounding alone
        raise _Unknown
    return value


def _product(tokens: _Tokens) -> float:
    if tokens.next in ("+", "-"):
        return _product(tokens) if tokens.advance() == "+" else -_product(tokens)
    value = _power(tokens)
    before = "factor"
    while True:
        if tokens.next == "/":
            tokens.advance()
            if before != "factor":  # 1/2x and 2x/3y are read in more than one way
                raise _Unknown
            value /= _power(tokens)
            before = "divided"
        elif tokens.next in ("*", "\\cdot", "\\times"):
            tokens.advance()
            value *= _power(tokens)
        elif tokens.kind in ("letter", "command") or tokens.next == "(":
            if before == "divided":
                raise _Unknown
            value *= _power(tokens)
        elif tokens.kind == "number":  # 5 7, or a number behind a letter
            raise _Unknown
        else:
            return value


def _power(tokens: _Tokens) -> float:
    base = _atom(tokens)
    if tokens.next != "^":
        return base
    tokens.advance()
    if tokens.next == "{":
        exponent = _braced(tokens)
    elif tokens.kind in ("number", "letter") and len(tokens.next) == 1:
        exponent = _atom(tokens)
    else:
        raise _Unknown
    if tokens.next == "^" or abs(exponent) > 64:
        raise _Unknown
    value = base**exponent
    if not isinstance(value, float):
        raise _Unknown
    return value


def _atom(tokens: _Tokens) -> float:
    kind, token = tokens.kind, tokens.advance()
    if kind == "number":
        if tokens.next == "\\frac":  # a mixed number, or a product
            raise _Unknown
        return float(token)
    if kind == "letter":
        if token in "iIeEdD" or tokens.next == "(":
            if token == "e" and tokens.next != "(":
                return math.e
            raise _Unknown
        return _value(token)
    if token == "\\pi":
        return math.pi
    if token == "\\frac":
        return _braced(tokens) / _braced(tokens)
    if token == "\\sqrt":
        degree = 2.0
        if tokens.next == "[":
            tokens.advance()
            degree = _sum(tokens)
            tokens.take("]")
        inner = _braced(tokens)
        if inner < 0 or degree < 2:
            raise _Unknown
        return float(inner ** (1 / degree))
    if token == "(":
        value = _sum(tokens)
        tokens.take(")")
        return value
    raise _Unknown


def _braced(tokens: _Tokens) -> float:
    tokens.take("{")
    value = _sum(tokens)
    tokens.take("}")
    return value


def _value(letter: str) -> float:
    """Another number for each letter, between 1 and 3, without a pattern."""
    return 1 + (ord(letter) * 0.6180339887498949) % 1 * 2
