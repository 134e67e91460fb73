"""Mean@k and Pass@k over [prompts, samples] verdicts."""

import numpy as np
import numpy.typing as npt

from rlad_core.evaluation.intervals import matrix_of


def mean_at_k(correct: npt.ArrayLike) -> float:
    """Mean@k: share of right responses over [prompts, k] verdicts."""
    return float(matrix_of(correct, "correct").mean())


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
    return float(solved_within(correct, k).mean())


def solved_within(correct: npt.ArrayLike, k: int) -> npt.NDArray[np.float64]:
    """The same for each prompt: float64 [prompts]."""
    verdicts = matrix_of(correct, "correct")
    samples = verdicts.shape[1]
    if not 1 <= k <= samples:
        raise ValueError(f"Pass@{k} needs at least {k} samples per prompt (and k at least 1), got {samples}")
    # all_wrong[c]: probability that k of n responses, c of them right, are all wrong. A factor of 0 or less
    # belongs to i <= k, where fewer than k wrong ones are left.
    factors = np.maximum(0.0, 1.0 - k / np.arange(samples, 0, -1))
    all_wrong = np.concatenate([[1.0], np.cumprod(factors)])
    return np.asarray(1.0 - all_wrong[verdicts.sum(axis=1)])


def ks_of(samples: int) -> tuple[int, ...]:
    """The k that Pass@k is told of where nobody says: powers of two from 2 on, and the number of samples."""
    powers = [2**power for power in range(1, samples.bit_length()) if 2**power < samples]
    return (*powers, samples)
