r"""Whether one value may be called approximately another: one is the other, rounded or cut off.

2\pi \approx 6.28, \frac{100}{3} \approx 33.3    yes, and so is 2.5 \approx 3
100 \approx 101, 1 \approx 2                     no: whoever says so has said two things
"""

from __future__ import annotations

import re
from fractions import Fraction

from rlad_core.tasks.math.algebra import decimal
from rlad_core.tasks.math.notation import Unreadable
from rlad_core.tasks.math.numbers import number
from rlad_core.tasks.math.quantities import quantity

_FIGURES = re.compile(r"[-+]?(?P<digits>[\d.,]*\d)\.?(?!\d|\s*/)")


def near(one: str, other: str) -> bool:
    """Whether one of two plain texts is the other rounded to its last digit, or cut off there.

    Their units are not looked at, and what is no constant is near nothing but its own text.
    """
    if one == other:
        return True
    (first, _), (second, _) = quantity(one), quantity(other)
    a, b = _constant(first), _constant(second)
    if a is None or b is None:
        return False
    return a == b or _rounds(first, a, b) or _rounds(second, b, a)


def _constant(text: str) -> Fraction | None:
    known = number(text)
    if known is not None:
        return known.value
    try:
        return decimal(text)
    except Unreadable:
        return None


def _rounds(text: str, rounded: Fraction, exact: Fraction) -> bool:
    written = _FIGURES.match(text)
    figures = int(re.sub(r"\D", "", written["digits"])) if written else 0
    if written is None or number(text) is None:
        return False
    places = len(written["digits"].partition(".")[2])
    last = abs(rounded) / figures if figures else Fraction(1, 10**places)
    apart = abs(exact - rounded)
    cut_off = places > 0 and apart < last and abs(rounded) < abs(exact)
    return cut_off or apart <= last / 2
