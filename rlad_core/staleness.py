"""Tokens of older policies: which of them count.

A token of policy version v that step s trains on has the age s - v. Older than the run's bound, it has weight
0 and no denominator knows of it; it stays in its sequence, where younger tokens attend to it. Otherwise its
age enters in one way alone, through the truncated weight min(pi_old / pi_rollout, cap) of the surrogate:
pi_old is the learner's policy at the start of the step, pi_rollout what the engine gave to the token when it
sampled it (AReaL's decoupled objective, arXiv 2505.24298, has the same two).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core.schema import flatten, lengths

VERSIONS = "policy_versions"


def young_tokens(table: pa.Table, counted: range | None) -> npt.NDArray[np.int64]:
    """How many response tokens of each row are not older than the versions that count: int64 [N].

    Where nobody says of which version they are (worked solutions, a teacher's responses), all are.
    """
    if counted is None or counted.start == 0 or VERSIONS not in table.column_names:
        return lengths(table.column("response_token_ids"))
    counts = [np.empty(0, np.int64)]
    for chunk in table.column(VERSIONS).chunks:
        versions, bounds = flatten(chunk)
        if len(chunk):  # and then every row has a token
            counts.append(np.add.reduceat(versions >= counted.start, bounds[:-1], dtype=np.int64))
    return np.concatenate(counts)


def tokens_by_version(table: pa.Table) -> dict[int, int]:
    """How many response tokens of a table are of each policy version."""
    versions = flatten(table.column(VERSIONS))[0]
    if not versions.size:
        return {}
    oldest = int(versions.min())
    counts = np.bincount(versions - oldest)
    return {oldest + age: int(counts[age]) for age in np.flatnonzero(counts).tolist()}


def trained_tokens(
    table: pa.Table, counted: range | None, responses: npt.NDArray[np.bool_] | None = None
) -> int:
    """How many response tokens of a batch are trained on.

    Args:
        counted: versions that count, see `young_tokens`.
        responses: bool [N], those that count; None: all.
    """
    young = young_tokens(table, counted)
    return int(young.sum() if responses is None else young[responses].sum())
