"""What an evaluation reports: accuracy with its interval, Mean@k, Pass@k, truncated responses, by subset."""

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


@dataclass(frozen=True)
class EvaluationRow:
    """One line of the table.

    Attributes:
        subset: for instance "3_people"; "all" for the line over everything.
        prompts: number of distinct prompts.
        samples: responses per prompt.
        accuracy: share of right responses over all prompts and samples, which is Mean@samples.
        interval: of the accuracy, see `accuracy_interval`.
        pass_at_k: mean of the unbiased estimates, see `pass_at_k`; k is in `k`.
        k: the k of pass_at_k, at most `samples`.
        truncated: responses cut off by the length limit.
    """

    subset: str
    prompts: int
    samples: int
    accuracy: float
    interval: Interval
    pass_at_k: float
    k: int
    truncated: int


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22, p. 209), without continuity correction.

    `trials` need not be whole, which `accuracy_interval` makes use of; for whole numbers this is
    ``scipy.stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")``.
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


def accuracy_interval(correct: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of the accuracy over [prompts, samples] verdicts, for prompts drawn at random.

    With one sample per prompt this is plain `wilson`. Several samples of one prompt are not independent: the
    prompt is hard or easy for all of them. So the number of trials is divided by the design effect: the
    variance of the mean as the prompts' own means show it, over the variance that independent samples would
    have (Kish 1965; here bounded to 1..samples), and Wilson's interval is taken at that effective number.
    Where all responses are right or all are wrong the effect cannot be estimated, and only the prompts count.
    """
    verdicts = _matrix(correct, "correct")
    prompts, samples = verdicts.shape
    share = float(verdicts.mean())
    independent = share * (1 - share) / (prompts * samples)
    effect = float(samples)
    if independent > 0 and prompts > 1:
        observed = float(verdicts.mean(axis=1).var(ddof=1)) / prompts
        effect = min(max(observed / independent, 1.0), float(samples))
    trials = prompts * samples / effect
    return wilson(min(share * trials, trials), trials, confidence)


def mean_at_k(correct: npt.ArrayLike) -> float:
    """Mean@k: share of right responses over [prompts, k] verdicts."""
    return float(_matrix(correct, "correct").mean())


def pass_at_k(correct: npt.ArrayLike, k: int) -> float:
    """Probability that one of k responses is right, estimated without bias from n >= k samples per prompt.

    Per prompt with c right ones 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, Eq. 1), as the
    product of (1 - k / i) over i = n-c+1 .. n, which neither overflows nor cancels.

    Args:
        correct: [prompts, n] verdicts.
        k: 1..n.

    Raises:
        ValueError: k outside 1..n.
    """
    verdicts = _matrix(correct, "correct")
    samples = verdicts.shape[1]
    if not 1 <= k <= samples:
        raise ValueError(f"Pass@{k} needs at least {k} samples per prompt (and k at least 1), got {samples}")
    # all_wrong[c]: probability that k of n responses, c of them right, are all wrong. A factor of 0 or less
    # belongs to i <= k, where fewer than k wrong ones are left.
    factors = np.maximum(0.0, 1.0 - k / np.arange(samples, 0, -1))
    all_wrong = np.concatenate([[1.0], np.cumprod(factors)])
    return float(np.mean(1.0 - all_wrong[verdicts.sum(axis=1)]))


def evaluation_rows(
    subsets: Sequence[str],
    prompt_ids: Sequence[str],
    correct: npt.ArrayLike,
    truncated: npt.ArrayLike,
    *,
    k: int | None = None,
    confidence: float = 0.95,
) -> list[EvaluationRow]:
    """One row per subset, in order of first appearance, and a row "all" where there are several.

    Args:
        subsets, prompt_ids, correct, truncated: one entry per response, in any order; every prompt must have
            the same number of responses.
        k: for Pass@k; None takes the number of samples per prompt.

    Raises:
        ValueError: nothing to evaluate, lengths differ, or some prompt has fewer responses than another
            (names it): a missing response would shift the accuracy unseen.
    """
    right, cut = np.asarray(correct, dtype=np.bool_), np.asarray(truncated, dtype=np.bool_)
    sizes = {len(subsets), len(prompt_ids), right.size, cut.size}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            f"one entry per response is wanted: {len(subsets)} subsets, {len(prompt_ids)} prompts, "
            f"{right.size} verdicts, {cut.size} truncation flags"
        )
    names = list(dict.fromkeys(subsets))
    labels, ids = np.asarray(subsets), np.asarray(prompt_ids)
    chosen = [(name, labels == name) for name in names]
    if len(names) > 1:
        chosen.append(("all", np.ones(right.size, dtype=np.bool_)))
    return [_row(name, ids[rows], right[rows], cut[rows], k, confidence) for name, rows in chosen]


def _row(
    subset: str, ids: npt.NDArray[np.str_], right: Booleans, cut: Booleans, k: int | None, confidence: float
) -> EvaluationRow:
    prompts, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    samples = int(counts.max())
    if (short := np.flatnonzero(counts < samples)).size:
        raise ValueError(
            f"subset {subset!r}: prompt {str(prompts[short[0]])!r} has {counts[short[0]]} responses "
            f"where others have {samples}; evaluate them all"
        )
    verdicts = right[np.argsort(inverse, kind="stable")].reshape(-1, samples)
    return EvaluationRow(
        subset=subset,
        prompts=len(prompts),
        samples=samples,
        accuracy=mean_at_k(verdicts),
        interval=accuracy_interval(verdicts, confidence),
        pass_at_k=pass_at_k(verdicts, samples if k is None else k),
        k=samples if k is None else k,
        truncated=int(cut.sum()),
    )


def _matrix(values: npt.ArrayLike, name: str) -> Booleans:
    matrix = np.asarray(values)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(
            f"{name} has shape {matrix.shape}, wanted [prompts, samples] with at least one of each"
        )
    if matrix.dtype != np.bool_:
        raise ValueError(f"{name} holds {matrix.dtype}, wanted right or wrong as booleans")
    return matrix
