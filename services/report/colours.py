"""How likely a token was, as a colour behind it: none where it was nearly certain, yellow, then red."""

from __future__ import annotations

import math
from itertools import pairwise

_STOPS = ((0.0, (255, 255, 255)), (-0.7, (255, 243, 176)), (-2.3, (250, 190, 110)), (-4.6, (235, 120, 110)))
"""Natural logs, so probabilities 1, 0.5, 0.1 and 0.01."""
CERTAIN = -0.05
"""From this log-prob on a token has no colour: probability 0.95."""


def colour(logprob: float) -> str:
    """``#rrggbb``; black letters can be read on it."""
    value = logprob if math.isfinite(logprob) else _STOPS[-1][0]
    for (left, from_colour), (right, to_colour) in pairwise(_STOPS):
        if value >= right:
            share = min(1.0, max(0.0, (value - left) / (right - left)))
            mixed = (round(a + share * (b - a)) for a, b in zip(from_colour, to_colour, strict=True))
            return "#" + "".join(f"{part:02x}" for part in mixed)
    return "#" + "".join(f"{part:02x}" for part in _STOPS[-1][1])


LEGEND = tuple((f"{math.exp(logprob):.2g}", colour(logprob)) for logprob, _ in _STOPS[1:])
"""Probabilities with their colours."""
