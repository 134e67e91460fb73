"""P-values: of differences between seeds by themselves, and corrected for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan2, cos, pi, sin, sqrt

import numpy as np

_ALIKE = 1e-12
"""What rounding leaves of a spread that is 0, and far less than a single sample makes."""


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for many comparisons (Holm 1979, Scandinavian Journal of Statistics 6, p. 65).

    Below 0.05 all of them hold together with an error of 5%, however they depend on each other.
    """
    order = np.argsort(p_values)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def paired_t_test(differences: Sequence[float]) -> float | None:
    """Two-sided p-value for the mean of paired differences being 0 (Student 1908, Biometrika 6, p. 1).

    This is ``scipy.stats.ttest_1samp(differences, 0).pvalue``; None where there is no spread to go by, of a
    single one and where all are the same. There its formula says 0, which no few differences can be worth:
    they are means of single answers, and agree by chance too.
    """
    count = len(differences)
    spread = float(np.std(differences, ddof=1)) if count > 1 else 0.0
    if spread < _ALIKE:
        return None
    return _beyond(abs(float(np.mean(differences))) * sqrt(count) / spread, count - 1)


def _beyond(t: float, freedom: int) -> float:
    """Probability of a value beyond -t or t, by the sums for whole degrees of freedom.

    Source: Abramowitz and Stegun 1964, Handbook of Mathematical Functions, 26.7.3 and 26.7.4, of which this
    is the complement.
    """
    rest = atan2(sqrt(freedom), t)  # their theta is pi / 2 less this
    term, total = (sin(rest), 0.0) if freedom % 2 else (1.0, 0.0)
    for order in range(3 if freedom % 2 else 2, freedom + 1, 2):
        total += term
        term *= sin(rest) ** 2 * (order - 1) / order
    if freedom % 2:
        return max(0.0, 2 / pi * (rest - cos(rest) * total))
    return max(0.0, 1 - cos(rest) * total)
