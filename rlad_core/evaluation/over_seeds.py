"""Methods that were trained with several seeds: their accuracy, and which differences between them are real.

What varies is the problems and the seeds, so both are drawn anew: the crossed bootstrap (Owen 2007, Annals of
Applied Statistics 1, p. 386, "the pigeonhole bootstrap"), which is conservative. Methods are compared on the
same problems and the same seeds, so what makes a problem hard or a seed lucky for both cancels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlad_core.evaluation.paired import RESAMPLES, Verdicts

Scores = npt.NDArray[np.float64]
"""[seeds, problems]: share of a problem's samples that are right, after training with a seed."""
_AT_A_TIME = 500
"""Resamples made at once, which bounds the memory of it."""
_TIE = 1e-12
"""What rounding leaves of a mean that is 0, and far less than a single sample makes."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval; of one seed and one problem the interval is unknown, None."""

    value: float
    low: float | None
    high: float | None


def scores_of(by_seed: Sequence[Verdicts]) -> dict[str, Scores]:
    """Scores by subset, of the problems that were answered after training with each of the seeds.

    Args:
        by_seed: one method's verdicts, a seed after another.
    """
    found: dict[str, Scores] = {}
    for subset in by_seed[0] if by_seed else ():
        shared = [p for p in by_seed[0][subset] if all(p in each.get(subset, {}) for each in by_seed)]
        if shared:
            found[subset] = np.array([[np.mean(each[subset][p]) for p in shared] for each in by_seed])
    return found


def estimate(scores: Mapping[str, Scores], *, seed: int = 0) -> Estimate:
    """The mean over subsets of their means over problems and seeds.

    Args:
        scores: by subset; all with the same seeds in the same order.
        seed: of the resampling.

    Raises:
        ValueError: there are none.
    """
    if not scores:
        raise ValueError("there are no scores to estimate from")
    return _estimate(scores, _resampled(list(scores.values()), seed))


def _estimate(scores: Mapping[str, Scores], drawn: npt.NDArray[np.float64] | None) -> Estimate:
    """Of the scores and the means of their resamples, where there are any."""
    value = float(np.mean([each.mean() for each in scores.values()]))
    if drawn is None:
        return Estimate(value, None, None)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, float(low), float(high))


@dataclass(frozen=True)
class Difference:
    """The second method's accuracy minus the first one's.

    Attributes:
        first, second: names.
        seeds, problems: that both have.
        difference: with its 95% interval.
        p_value: two-sided, of the bootstrap: twice the smaller share of resamples on one side of 0, each side
            counted one higher than it is, so never 0; None where nothing can be drawn.
        adjusted: the same after `holm` over all pairs that were compared.
    """

    first: str
    second: str
    seeds: int
    problems: int
    difference: Estimate
    p_value: float | None
    adjusted: float | None = None


def difference(
    names: tuple[str, str], first: Mapping[str, Scores], second: Mapping[str, Scores], *, seed: int = 0
) -> Difference:
    """Compare two methods on the subsets that both have; seeds and problems are paired by their places.

    Raises:
        ValueError: they share no subset, or differ in seeds or problems.
    """
    shared = [subset for subset in first if subset in second]
    if not shared:
        raise ValueError(f"{names[0]} and {names[1]} share no subset")
    for subset in shared:
        if first[subset].shape != second[subset].shape:
            raise ValueError(
                f"{names[0]} has {first[subset].shape} seeds and problems of {subset}, {names[1]} "
                f"{second[subset].shape}; only the same can be compared"
            )
    pairs = {subset: second[subset] - first[subset] for subset in shared}
    seeds = next(iter(pairs.values())).shape[0]
    problems = sum(each.shape[1] for each in pairs.values())
    drawn = _resampled(list(pairs.values()), seed)
    p_value = None
    if drawn is not None:
        # Differences that cancel leave 1e-17 on one side or the other: they are ties, and count on both.
        tail = min(int((drawn <= _TIE).sum()), int((drawn >= -_TIE).sum()))
        p_value = min(1.0, 2 * (tail + 1) / (len(drawn) + 1))
    return Difference(*names, seeds, problems, _estimate(pairs, drawn), p_value)


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


def _resampled(strata: Sequence[Scores], seed: int) -> npt.NDArray[np.float64] | None:
    """Means over the strata's means, of drawn seeds (the same in all) and drawn problems, [RESAMPLES]."""
    seeds = strata[0].shape[0]
    if seeds < 2 and all(each.shape[1] < 2 for each in strata):
        return None
    generator = np.random.default_rng(seed)
    means = np.zeros(RESAMPLES)
    for start in range(0, RESAMPLES, _AT_A_TIME):
        count = min(_AT_A_TIME, RESAMPLES - start)
        # How often each seed, each problem is drawn: the sums are then two products.
        of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        for scores in strata:
            size = scores.shape[1]
            of_problems = generator.multinomial(size, np.full(size, 1 / size), size=count) / size
            means[start : start + count] += ((of_seeds @ scores) * of_problems).sum(axis=1) / len(strata)
    return means
