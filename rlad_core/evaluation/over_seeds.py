"""Methods that were trained with several seeds: their accuracy, and which differences between them are real.

What varies is the problems and the seeds, so both are drawn anew (`rlad_core.evaluation.crossed`). Methods
are compared on the same problems and the same seeds, so what makes a problem hard or a seed lucky for both
cancels.

Two or three seeds tell little of how much seeds differ, and what is drawn from them has even less spread. So
where a seed changes more than single answers do, intervals are too narrow and p-values too small. Of pairs
that do not differ, on 500 problems, so many have p < 0.05 where the seeds' differences have a standard
deviation of 2 points: with one answer 1.8%, with 16 answers 12%; of 3 points 19%, and with two seeds 25%
(`benchmarks.error_rates`). The t-test over the seeds' differences keeps to its 5% in all of these, but knows
these problems alone, and with so few seeds finds little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rlad_core.evaluation.crossed import Scores, resampled
from rlad_core.evaluation.p_values import holm, paired_t_test
from rlad_core.evaluation.paired import RESAMPLES, Verdicts

Pair = tuple[tuple[str, str], Mapping[str, Scores], Mapping[str, Scores]]
"""Names of two methods, and the scores of each by subset."""
_TIE = 1e-12
"""What rounding leaves of a mean that is 0, and far less than a single sample makes."""
_PER_PAIR, _MOST_RESAMPLES = 80, 100_000
"""Of 125 pairs and more: so many resamples a pair that the surest difference is 2.5% after `holm`; from 1,250
pairs on, which are 51 methods, more, and from 2,500 on nothing would be real."""


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


def estimates(wanted: Sequence[Mapping[str, Scores]], *, seed: int = 0) -> list[Estimate]:
    """Of each the mean over subsets of their means over problems and seeds.

    Args:
        wanted: scores by subset; all of one with the same seeds in the same order.
        seed: of the resampling.

    Raises:
        ValueError: one has none.
    """
    if not all(wanted):
        raise ValueError("there are no scores to estimate from")
    drawn = resampled([list(scores.values()) for scores in wanted], seed, RESAMPLES)
    return [_estimate(*each) for each in zip(wanted, drawn, strict=True)]


def estimate(scores: Mapping[str, Scores], *, seed: int = 0) -> Estimate:
    """See `estimates`."""
    return estimates([scores], seed=seed)[0]


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
        by_seed: the difference of each seed, in their order.
        p_value: two-sided, of the bootstrap: twice the smaller share of resamples on one side of 0, each side
            counted one higher than it is, so never 0; None where nothing can be drawn.
        t_test: p-value of `paired_t_test` over `by_seed`, a second opinion.
        adjusted: `p_value` after `holm` over all pairs that were compared.
    """

    first: str
    second: str
    seeds: int
    problems: int
    difference: Estimate
    by_seed: tuple[float, ...]
    p_value: float | None
    t_test: float | None
    adjusted: float | None = None


def differences(pairs: Sequence[Pair], *, seed: int = 0) -> list[Difference]:
    """Compare pairs of methods on the subsets that both have; seeds and problems are paired by their places.

    Args:
        pairs: all that are looked at, for which `Difference.adjusted` corrects.
        seed: of the resampling.

    Raises:
        ValueError: two share no subset, or differ in seeds or problems.
    """
    paired = [_paired(*pair) for pair in pairs]
    resamples = min(max(RESAMPLES, _PER_PAIR * len(pairs)), _MOST_RESAMPLES)
    drawn = resampled([list(each.values()) for each in paired], seed, resamples)
    found = [
        _difference(names, each, means) for (names, *_), each, means in zip(pairs, paired, drawn, strict=True)
    ]
    adjusted = iter(holm([each.p_value for each in found if each.p_value is not None]))
    return [each if each.p_value is None else replace(each, adjusted=next(adjusted)) for each in found]


def difference(
    names: tuple[str, str], first: Mapping[str, Scores], second: Mapping[str, Scores], *, seed: int = 0
) -> Difference:
    """A single pair, see `differences`."""
    return differences([(names, first, second)], seed=seed)[0]


def _paired(
    names: tuple[str, str], first: Mapping[str, Scores], second: Mapping[str, Scores]
) -> dict[str, Scores]:
    shared = [subset for subset in first if subset in second]
    if not shared:
        raise ValueError(f"{names[0]} and {names[1]} share no subset")
    for subset in shared:
        if first[subset].shape != second[subset].shape:
            raise ValueError(
                f"{names[0]} has {first[subset].shape} seeds and problems of {subset}, {names[1]} "
                f"{second[subset].shape}; only the same can be compared"
            )
    return {subset: second[subset] - first[subset] for subset in shared}


def _difference(
    names: tuple[str, str], paired: Mapping[str, Scores], drawn: npt.NDArray[np.float64] | None
) -> Difference:
    by_seed = np.mean([each.mean(axis=1) for each in paired.values()], axis=0).tolist()
    problems = sum(each.shape[1] for each in paired.values())
    p_value = None
    if drawn is not None:
        # Differences that cancel leave 1e-17 on one side or the other: they are ties, and count on both.
        tail = min(int((drawn <= _TIE).sum()), int((drawn >= -_TIE).sum()))
        p_value = min(1.0, 2 * (tail + 1) / (len(drawn) + 1))
    estimated = _estimate(paired, drawn)
    return Difference(
        *names, len(by_seed), problems, estimated, tuple(by_seed), p_value, paired_t_test(by_seed)
    )
