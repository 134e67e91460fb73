"""The crossed bootstrap: seeds and problems drawn anew, each by itself.

Source: Owen 2007, Annals of Applied Statistics 1, p. 386, "the pigeonhole bootstrap".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
"""[seeds, problems]: share of a problem's samples that are right, after training with a seed."""
Means = npt.NDArray[np.float64]
_AT_A_TIME = 500
"""Resamples made at once, which bounds the memory of it."""


def resampled(wanted: Sequence[Sequence[Scores]], seed: int, resamples: int) -> list[Means | None]:
    """Means over strata's means, of drawn seeds (the same in all strata) and drawn problems.

    Drawing takes most of the time. So what is asked for together and has the same shape shares its draws,
    which are the very ones that each would get alone.

    Args:
        wanted: the strata of each, all of them with the same seeds in the same order.
        seed: of the drawing.

    Returns:
        Of each its means [resamples]; None where nothing can be drawn, of one seed and one problem.
    """
    found: list[Means | None] = [None] * len(wanted)
    alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for place, strata in enumerate(wanted):
        if strata[0].shape[0] > 1 or any(each.shape[1] > 1 for each in strata):
            alike.setdefault(tuple(each.shape for each in strata), []).append(place)
    for places in alike.values():
        for place, means in zip(
            places, _drawn([wanted[place] for place in places], seed, resamples), strict=True
        ):
            found[place] = means
    return found


def _drawn(alike: Sequence[Sequence[Scores]], seed: int, resamples: int) -> list[Means]:
    """Those of one shape."""
    sizes, seeds = [each.shape[1] for each in alike[0]], alike[0][0].shape[0]
    generator = np.random.default_rng(seed)
    means = [np.zeros(resamples) for _ in alike]
    for start in range(0, resamples, _AT_A_TIME):
        count = min(_AT_A_TIME, resamples - start)
        # How often each seed, each problem is drawn: the sums are then two products.
        of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        for stratum, size in enumerate(sizes):
            of_problems = generator.multinomial(size, np.full(size, 1 / size), size=count) / size
            for own, strata in zip(means, alike, strict=True):
                drawn = ((of_seeds @ strata[stratum]) * of_problems).sum(axis=1)
                own[start : start + count] += drawn / len(sizes)
    return means
