"""Responses that were cut off, or nearly: DAPO's soft overlong punishment.

With L_max the longest response and a buffer of L_cache tokens before it, a response of \\|y\\| tokens loses

    0                                      where \\|y\\| <= L_max - L_cache
    (\\|y\\| - (L_max - L_cache)) / L_cache    up to L_max
    1                                      above

times a factor (arXiv 2503.14476, Eq. 13, whose factor is 1). L_max is the room that the response had: less
than the longest response where its prompt left less.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlad_core import schema

PART = "overlong"
"""Name of the penalty among a reward's parts."""


def is_cut_off(rollouts: pa.Table) -> npt.NDArray[np.bool_]:
    """Which responses ended at a limit, and not by themselves: bool [N]."""
    cut: npt.NDArray[np.bool_] = pc.equal(rollouts.column("finish_reason"), "length").to_numpy()
    return cut


def penalties(
    lengths: npt.ArrayLike, room: npt.ArrayLike, buffer: int, factor: float = 1.0
) -> npt.NDArray[np.float64]:
    """What each response loses, at least 0.

    Args:
        lengths: tokens of each response, [N].
        room: the most tokens that it could have had, [N].
        buffer: tokens before that over which the penalty grows.
        factor: the penalty of a response that is as long as it could be.
    """
    free = np.asarray(room, dtype=np.float64) - buffer
    return factor * np.clip((np.asarray(lengths, dtype=np.float64) - free) / buffer, 0.0, 1.0)


def penalised(
    rewards: pa.Table, rollouts: pa.Table, *, longest: int, max_length: int, buffer: int, factor: float
) -> pa.Table:
    """REWARDS with the penalty taken off, and named among the reward's parts.

    Args:
        rewards: REWARDS of the rollouts, in any order.
        rollouts: ROLLOUTS.
        longest: tokens that a response may have.
        max_length: tokens that prompt and response may have together.
        buffer, factor: see `penalties`.
    """
    room = np.minimum(longest, max_length - schema.lengths(rollouts.column("prompt_token_ids")))
    lost = penalties(schema.lengths(rollouts.column("response_token_ids")), room, buffer, factor)
    of = dict(zip(schema.sequence_ids(rollouts).to_pylist(), lost.tolist(), strict=True))
    rows = rewards.to_pylist()
    for row in rows:
        penalty = of[row["sequence_id"]]
        row["reward"] -= penalty
        row["reward_parts"] = {**dict(row["reward_parts"]), PART: -penalty}
    return schema.build(schema.REWARDS, rows, tokenizer_fingerprint=schema.fingerprint_of(rewards))
