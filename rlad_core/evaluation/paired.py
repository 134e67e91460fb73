"""Two models on the same problems: the difference of their accuracies, and McNemar's test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

import numpy as np
import numpy.typing as npt

from rlad_core.evaluation.rows import ALL, AVERAGE

Verdicts = Mapping[str, Mapping[str, Sequence[bool]]]
"""Subset -> prompt -> verdict of each sample."""

RESAMPLES = 10_000
_SEED = 0  # the same rows get the same interval
_AT_A_TIME = 2**22
"""Numbers drawn at once, which bounds the memory of it."""


@dataclass(frozen=True)
class PairedRow:
    """The second model against the first, on a subset.

    Attributes:
        subset: as in `EvaluationRow`, `AVERAGE` and `ALL` included.
        problems: that both answered.
        difference: accuracy of the second minus that of the first.
        low, high: 95% interval of it, see `paired_rows`; None where there is but one problem.
        gained, lost: problems that only the second, only the first has right; None with several samples.
        p_value: of `mcnemar`; None with several samples, and for `AVERAGE`.
    """

    subset: str
    problems: int
    difference: float
    low: float | None
    high: float | None
    gained: int | None = None
    lost: int | None = None
    p_value: float | None = None


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value for two models having the same accuracy, of single samples.

    If they have, each problem that one alone has right is the one's or the other's with probability 1/2
    (McNemar 1947, Psychometrika 12, p. 153; exact, as a sign test). This is
    ``scipy.stats.binomtest(gained, gained + lost).pvalue``.

    Args:
        gained, lost: problems that one model alone has right, and the other alone.

    Raises:
        ValueError: one of them is below 0.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"{gained} and {lost} are no counts")
    together, fewer = gained + lost, min(gained, lost)
    tail = sum(comb(together, each) for each in range(fewer + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**together)))


def paired_rows(first: Verdicts, second: Verdicts) -> list[PairedRow]:
    """A row for each subset of both; where there are several, `AVERAGE` and `ALL` too.

    The interval is a percentile bootstrap over problems, a problem being drawn with the samples of both
    models (Efron 1979): so what makes a problem hard for both cancels. `AVERAGE` draws within each subset.

    Args:
        first, second: may differ in the number of samples; problems that one alone answered are left out.

    Raises:
        ValueError: they have no problem in common.
    """
    differences: dict[str, npt.NDArray[np.float64]] = {}
    rows: list[PairedRow] = []
    whole: dict[str, tuple[Sequence[bool], Sequence[bool]]] = {}
    for subset in first:
        shared = [prompt for prompt in first[subset] if prompt in second.get(subset, {})]
        if not shared:
            continue
        pairs = {prompt: (first[subset][prompt], second[subset][prompt]) for prompt in shared}
        differences[subset] = _differences(list(pairs.values()))
        rows.append(_row(subset, list(pairs.values()), _resampled([differences[subset]])))
        whole = pairs | whole  # of a problem in several subsets the first counts
    if not rows:
        raise ValueError("they have no problem in common")
    if len(rows) == 1:
        return rows
    low, high = _resampled(list(differences.values())) or (None, None)
    mean = float(np.mean([each.mean() for each in differences.values()]))
    pairs_of_all = list(whole.values())
    return [
        *rows,
        PairedRow(AVERAGE, len(whole), mean, low, high),
        _row(ALL, pairs_of_all, _resampled([_differences(pairs_of_all)])),
    ]


def _differences(pairs: Sequence[tuple[Sequence[bool], Sequence[bool]]]) -> npt.NDArray[np.float64]:
    return np.array([np.mean(second) - np.mean(first) for first, second in pairs], dtype=np.float64)


def _row(
    subset: str, pairs: Sequence[tuple[Sequence[bool], Sequence[bool]]], interval: tuple[float, float] | None
) -> PairedRow:
    low, high = interval or (None, None)
    difference = float(_differences(pairs).mean())
    if any(len(first) != 1 or len(second) != 1 for first, second in pairs):
        return PairedRow(subset, len(pairs), difference, low, high)
    gained = sum(second[0] and not first[0] for first, second in pairs)
    lost = sum(first[0] and not second[0] for first, second in pairs)
    return PairedRow(subset, len(pairs), difference, low, high, gained, lost, mcnemar(gained, lost))


def _resampled(strata: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float] | None:
    """95% interval of the mean of the strata's means; None where all have one problem."""
    if all(len(each) < 2 for each in strata):
        return None
    generator = np.random.default_rng(_SEED)
    means = np.zeros(RESAMPLES)
    for values in strata:
        size = max(1, _AT_A_TIME // len(values))
        for start in range(0, RESAMPLES, size):
            count = min(size, RESAMPLES - start)
            drawn = generator.integers(len(values), size=(count, len(values)))
            means[start : start + count] += values[drawn].mean(axis=1) / len(strata)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
