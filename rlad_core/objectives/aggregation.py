"""How the losses of tokens become one number, with denominators of the global batch.

A weight per token that already holds the denominator makes the loss a plain sum: it doesn't matter how
the batch is split over micro-batches and ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Aggregation = Literal["sequence_mean", "token_mean", "group_mean", "fixed_length"]
Lengths: TypeAlias = "Sequence[int] | npt.NDArray[np.integer]"


def aggregation_weights(
    lengths: Lengths,
    aggregation: Aggregation,
    fixed_length: int | None = None,
    groups: Lengths | None = None,
) -> npt.NDArray[np.float64]:
    """The weight of every token of each response.

    With N responses of lengths L_i, of G groups, in the global batch:

    - ``sequence_mean``: 1 / (N * L_i), the mean over responses of their token means (RLAD, Eq. 4);
    - ``token_mean``: 1 / sum(L), one mean over all tokens (DAPO, arXiv 2503.14476);
    - ``group_mean``: 1 / (G * sum of L in its group), the mean over groups of the means over their tokens
      (TOP-D, arXiv 2607.04751);
    - ``fixed_length``: 1 / (N * fixed_length), which favours no length (Dr. GRPO, arXiv 2503.20783).

    Args:
        lengths: tokens of each response of the *global* batch, not of a micro-batch or rank, [N].
        aggregation: one of the names above.
        fixed_length: tokens that a response counts as, for ``fixed_length`` alone.
        groups: a number of each response's group, [N]; needed for ``group_mean``.

    Returns:
        float64 [N]: the weight of each token of response i.

    Raises:
        ValueError: no responses, an empty response, fixed_length missing, useless or not positive, or not
            one group for each response where it is needed.
    """
    import numpy as np  # a recipe is checked without it

    counts = np.asarray(lengths, dtype=np.int64)
    if counts.ndim != 1 or counts.size == 0:
        raise ValueError(f"aggregation_weights needs the lengths of at least one response, got {lengths!r}")
    if counts.min() < 1:
        raise ValueError(f"response {int(counts.argmin())} has no tokens; leave it out of the batch")
    if (fixed_length is not None) != (aggregation == "fixed_length"):
        raise ValueError(
            f"fixed_length goes with aggregation 'fixed_length'; got {fixed_length} with {aggregation!r}"
        )
    if aggregation == "sequence_mean":
        return 1.0 / (counts.size * counts)
    if aggregation == "token_mean":
        return np.full(counts.size, 1.0 / counts.sum())
    if aggregation == "group_mean":
        if groups is None or len(groups) != counts.size:
            raise ValueError(f"group_mean needs the group of each of {counts.size} responses, got {groups!r}")
        _, group = np.unique(np.asarray(groups), return_inverse=True)
        tokens = np.bincount(group, weights=counts)
        weights: npt.NDArray[np.float64] = 1.0 / (tokens.size * tokens[group])
        return weights
    if aggregation == "fixed_length" and fixed_length is not None:
        if fixed_length < 1:
            raise ValueError(f"fixed_length is {fixed_length}; it is a number of tokens, at least 1")
        return np.full(counts.size, 1.0 / (counts.size * fixed_length))
    raise ValueError(
        f"aggregation is {aggregation!r}; use sequence_mean, token_mean, group_mean or fixed_length"
    )
