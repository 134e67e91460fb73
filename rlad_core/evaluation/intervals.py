"""Intervals of shares: of verdicts whose problems have several samples, and of a mean over subsets."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """A confidence interval, low <= high, both in 0..1."""

    low: float
    high: float


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22, p. 209), without continuity correction.

    `trials` need not be whole, which `accuracy_interval` makes use of; for whole numbers this is
    ``scipy.stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")``.

    Raises:
        ValueError: no trials, successes outside 0..trials, or a confidence outside 0..1.
    """
    if not (trials > 0 and 0 <= successes <= trials):
        raise ValueError(f"{successes} successes of {trials} trials is no proportion")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, wanted a number between 0 and 1")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Both ends are exact at the edges, where rounding would leave 1e-17.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)


def accuracy_interval(correct: npt.ArrayLike) -> Interval:
    """95% interval of the accuracy over [prompts, samples] verdicts, for prompts drawn at random.

    With one sample per prompt this is plain `wilson`. Several samples of one prompt are not independent: the
    prompt is hard or easy for all of them, see `share_interval`.

    Raises:
        ValueError: the verdicts are no matrix of booleans, or empty; see `wilson`.
    """
    verdicts = matrix_of(correct, "correct")
    return share_interval(verdicts.mean(axis=1), verdicts.shape[1])


def share_interval(values: npt.ArrayLike, samples: int) -> Interval:
    """95% interval of a mean over prompts drawn at random, whose own values are shares.

    Wilson's interval at the number of trials that would give the mean the variance that it has: as many as
    there are responses, divided by the design effect, which is the variance of the mean as the prompts' own
    values show it, over the variance that independent responses would have (Kish 1965; here bounded to
    1..samples). Where all values are 0 or all are 1 the effect cannot be estimated, and only the prompts
    count.

    Args:
        values: float [prompts] in 0..1, such as each prompt's share of right responses.
        samples: responses per prompt that each value is made of, at least 1.

    Raises:
        ValueError: no values, one outside 0..1, or no samples; see `wilson`.
    """
    column = np.asarray(values, dtype=np.float64)
    are_shares = np.abs(column - 0.5) <= 0.5 + 1e-9  # those that were computed may be a rounding over 1
    if column.ndim != 1 or not column.size or not are_shares.all() or samples < 1:
        raise ValueError(
            "wanted a share in 0..1 for each of one or more prompts, each of at least 1 response; got values "
            f"of shape {column.shape} and {samples} responses per prompt"
        )
    prompts, share = len(column), float(column.mean())
    independent = share * (1 - share) / (prompts * samples)
    effect = float(samples)
    if independent > 0 and prompts > 1:
        effect = min(max(float(column.var(ddof=1)) / prompts / independent, 1.0), float(samples))
    trials = prompts * samples / effect
    return wilson(min(share * trials, trials), trials)


def mean_interval(means: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """Interval of the unweighted mean of independent shares, from the interval of each.

    The variance of each share is recovered from its own interval, on the side where it is wanted (MOVER: Zou
    and Donner 2008, Stat Med 27, p. 1693). So it is as lopsided as they are, and a subset whose answers are
    all right does not count as certain.

    Args:
        means: [subsets], in 0..1.
        intervals: of each.

    Raises:
        ValueError: there are none, or not an interval for each share.
    """
    shares = np.asarray(means, dtype=np.float64)
    low, high = (np.array([getattr(each, side) for each in intervals]) for side in ("low", "high"))
    if not len(shares) or len(shares) != len(low):
        raise ValueError(f"{len(shares)} shares and {len(low)} intervals; wanted one of each, at least one")
    mean, count = float(shares.mean()), len(shares)
    below, above = (sqrt(float(((shares - side) ** 2).sum())) / count for side in (low, high))
    return Interval(max(0.0, mean - below), min(1.0, mean + above))


def matrix_of(values: npt.ArrayLike, name: str) -> Booleans:
    """[prompts, samples] verdicts.

    Args:
        name: of the values, for the error.

    Raises:
        ValueError: any other shape, none at all, or no booleans.
    """
    matrix = np.asarray(values)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(
            f"{name} has shape {matrix.shape}, wanted [prompts, samples] with at least one of each"
        )
    if matrix.dtype != np.bool_:
        raise ValueError(f"{name} holds {matrix.dtype}, wanted right or wrong as booleans")
    return matrix
