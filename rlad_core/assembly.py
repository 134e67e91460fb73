"""From one step's table to what each learner rank trains on: mini-batches of whole groups, in equal shards.

Token weights are set here, from each *global* mini-batch, so it makes no difference to the loss on which
rank, in which micro-batch, or beside which sequences a token is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core.batching import balanced_shards, costs
from rlad_core.schema import lengths
from rlad_core.staleness import young_tokens

TokenWeights = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class ShardPlan:
    """The rows of one rank.

    Attributes:
        rows: int64 [n], rows of the step's table.
        mini_batch: int64 [n], which optimizer step of the batch a row belongs to, 0, 1, ...
        token_weights: float64 [n], the aggregation weight of each of the row's response tokens.
        group_has_correct: bool [n], some response of the row's group is right (False: nothing was judged).
        counted_versions: tokens of older policy versions have weight 0; None: all count.
    """

    rows: npt.NDArray[np.int64]
    mini_batch: npt.NDArray[np.int64]
    token_weights: npt.NDArray[np.float64]
    group_has_correct: npt.NDArray[np.bool_]
    counted_versions: range | None = None


def plan_shards(
    table: pa.Table,
    *,
    groups: Sequence[str],
    mini_batches: int,
    ranks: int,
    token_weights: TokenWeights,
    pair_cost: float = 0.0,
    counted: npt.NDArray[np.bool_] | None = None,
    counted_versions: range | None = None,
) -> list[ShardPlan]:
    """Plan which rank trains on which rows, and in which optimizer step.

    Args:
        table: with ``prompt_token_ids`` and ``response_token_ids``, N rows.
        groups: [N] the group of each row; a group is never split over two mini-batches.
        mini_batches: optimizer steps to make of the batch; fewer where there are fewer groups.
        ranks: learner ranks.
        token_weights: lengths of the responses of one global mini-batch, and numbers of their groups ->
            weight per token, see ``Objective.token_weights``.
        pair_cost: what attention to a token costs beside the rest of a pass, see
            `rlad_core.sizing.Shape.pair_cost`. Ranks get shards of equal cost, of the rows that count and of
            the others; mini-batches, equal tokens.
        counted: bool [N], rows whose tokens count in the loss: the others get weight 0, and no denominator
            knows of them. None: all.
        counted_versions: policy versions whose tokens count, up to that of the policy now; likewise.

    Returns:
        One plan a rank. Every row is in exactly one; all ranks count the same mini-batches, though
        a rank may hold no row of one.

    Raises:
        ValueError: there is not one group per row.
    """
    if len(groups) != len(table):
        raise ValueError(
            f"the table has {len(table)} rows and {len(groups)} groups are given; give one per row"
        )
    responses = lengths(table.column("response_token_ids"))
    tokens = lengths(table.column("prompt_token_ids")) + responses
    young = young_tokens(table, counted_versions)
    if not young.all():
        counted = (young > 0) if counted is None else counted & (young > 0)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    loads = np.bincount(group, weights=tokens).astype(np.int64)
    weights = np.zeros(len(tokens))
    solved = np.zeros(len(tokens), dtype=np.bool_)
    if "correct" in table.column_names:
        solved = np.bincount(group, weights=table.column("correct").to_numpy())[group] > 0
    per_rank: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(ranks)]
    mini_batch = np.zeros(len(tokens), dtype=np.int64)
    if len(tokens):
        for index, members in enumerate(balanced_shards(loads, min(mini_batches, loads.size))):
            rows = np.flatnonzero(np.isin(group, members))
            mini_batch[rows] = index
            kept = rows if counted is None else rows[counted[rows]]
            if kept.size:
                weights[kept] = token_weights(young[kept], group[kept])
            for part in (kept, np.setdiff1d(rows, kept)):  # the latter go through no pass
                for rank, shard in enumerate(balanced_shards(costs(tokens[part], pair_cost), ranks)):
                    per_rank[rank].append(part[shard])
    plans = []
    for parts in per_rank:
        mine = np.concatenate([np.empty(0, np.int64), *parts])
        plans.append(ShardPlan(mine, mini_batch[mine], weights[mine], solved[mine], counted_versions))
    return plans
