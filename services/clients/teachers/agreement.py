"""Whether two answers about the same tokens are one teacher's, up to rounding; and what else they look like.

Log-probs of one sequence differ by the order in which a forward pass adds numbers up. How much is a matter of
precision alone: in float32 so little that any fault stands out, in bfloat16 so much that a small one hides.
Compared is the mean over a response's tokens of the absolute difference, which rounding keeps small, and the
largest one, which may be twenty times that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Logprobs = npt.NDArray[np.float32]

MEAN: Final = {"float32": 1e-4, "bfloat16": 0.05}
"""Mean absolute difference per token, in nats, that rounding explains, by the precision of the forward pass.
docs/faults.md has what was measured, and the smallest faults that are above it."""
_LARGEST: Final = 20.0
_FAR_BELOW: Final = 4.0
"""Nats: where log-probs lie further below zero on average, so much more counts as rounding, in proportion."""
_ENOUGH_TOKENS: Final = 16
"""The mean over fewer may be larger, by the square root of what lacks."""
STAND_IN: Final = -9999.0
"""At or below it stands what somebody writes for minus infinity."""
_ROUNDED_TOKENS: Final = 16
"""So many numbers are never all of float16 by chance."""
_TELLS_ROUNDING: Final = 2.0**-4
"""Nats. A log-prob is a difference of numbers as large as logits, so it is a multiple of some 2**-19, and one
near zero has no more bits than float16 holds. From here on it has, and is one of float16 in 1 case of 8.
"""


@dataclass(frozen=True)
class Difference:
    """How far two answers about a response are apart, in nats; NaN where one of them has a NaN.

    mean: over the tokens. largest: at the token `place`. tokens: how many. depth: how far below zero they are
    on average, in the one of the two where it is less.
    """

    mean: float
    largest: float
    place: int
    tokens: int
    depth: float


def difference(told: Logprobs, again: Logprobs) -> Difference:
    """Of two arrays [T] of the same T, at least 1."""
    one, other = told.astype(np.float64), again.astype(np.float64)
    apart = np.abs(one - other)
    bad = ~np.isfinite(apart)
    place = int(np.argmax(np.where(bad, math.inf, apart)))
    depth = float(min(np.abs(one).mean(), np.abs(other).mean()))
    return Difference(float(apart.mean()), float(apart[place]), place, one.size, depth)


@dataclass(frozen=True)
class Tolerance:
    """What rounding explains: a mean absolute difference per token, in nats."""

    mean: float

    @classmethod
    def of(cls, dtype: str | None, said: float | None = None) -> Tolerance:
        """Of a precision; where it is not known that of bfloat16. `said` by the recipe counts before it."""
        return cls(MEAN.get(dtype or "", MEAN["bfloat16"]) if said is None else said)

    def explains(self, found: Difference) -> bool:
        """Whether rounding explains a difference."""
        mean = self.mean * max(1.0, found.depth / _FAR_BELOW)
        few = math.sqrt(max(1.0, _ENOUGH_TOKENS / found.tokens))
        return found.mean <= mean * few and found.largest <= mean * _LARGEST


def is_rounded(logprobs: Logprobs) -> bool:
    """Whether these are numbers of float16 or bfloat16, too many of them for chance. Of a teacher that is
    sure of nearly all its tokens nobody can say.
    """
    values = logprobs[np.abs(logprobs) >= _TELLS_ROUNDING]
    if values.size < _ROUNDED_TOKENS:
        return False
    with np.errstate(over="ignore"):
        half = values.astype(np.float16).astype(np.float32)
    return bool((half == values).all() or not (values.view(np.uint32) & 0xFFFF).any())


def is_suspect(logprobs: Logprobs) -> bool:
    """Whether a response's values look like none: filled with zeros, stand-ins, rounded."""
    filled = logprobs.size > 3 and bool((logprobs[1:] == logprobs[0]).all())
    return filled or bool((logprobs <= STAND_IN).any()) or is_rounded(logprobs)


def looks_like(told: Logprobs, again: Logprobs, tolerance: Tolerance) -> str:
    """What a wrong answer looks like beside the right one, as part of a sentence; empty: no idea."""
    if not told.any():
        return "they are zeros"
    if (told <= STAND_IN).any():
        return "there are stand-ins for minus infinity"
    if told.size > 2:
        for name, one, other in (("late", told[1:], again[:-1]), ("early", told[:-1], again[1:])):
            if tolerance.explains(difference(one, other)):
                return f"they stand one token too {name}"
        if tolerance.explains(difference(told[:-1], again[:-1])):
            return "the last token alone differs, where the end token stands"
    return ""
