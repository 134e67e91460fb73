"""From a global batch to shards, and from shards to micro-batches.

Nothing here changes what is computed: the objectives' weights are set from the global batch, so any split
gives the same loss and gradient. The splits only decide how evenly the ranks are loaded and how much memory
one forward pass takes. `rlad_core.packing` makes a micro-batch one stream.
"""

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def balanced_shards(loads: npt.ArrayLike, shards: int) -> list[Indices]:
    """Split sequences into shards of nearly equal load (heaviest first, each to the lightest shard).

    Deterministic. The loads of two shards that hold more than one sequence differ by no more than the
    heaviest sequence (Graham's bound for list scheduling).

    Args:
        loads: [sequences], of each, at least 1: its tokens, or its cost (`costs`).
        shards: how many, at least 1.

    Returns:
        `shards` arrays of indices, each rising, every index in exactly one of them. None is empty where there
        are at least as many sequences as shards.

    Raises:
        ValueError: no shards, loads of another shape, or one below 1; names the sequence.
    """
    each = _checked(loads, np.float64)
    if shards < 1:
        raise ValueError(f"shards is {shards}, wanted at least 1")
    members: list[list[int]] = [[] for _ in range(shards)]
    heap = [(0.0, shard) for shard in range(shards)]
    for index in np.argsort(-each, kind="stable"):
        load, shard = heapq.heappop(heap)
        members[shard].append(int(index))
        heapq.heappush(heap, (load + float(each[index]), shard))
    return [np.sort(np.array(member, dtype=np.int64)) for member in members]


def micro_batches(lengths: npt.ArrayLike, token_budget: int) -> list[Indices]:
    """Group sequences into few micro-batches of at most `token_budget` tokens (first-fit decreasing).

    Args:
        lengths: [sequences], tokens of each.
        token_budget: tokens of a micro-batch.

    Returns:
        Arrays of indices, each rising and not empty, every index in exactly one of them.

    Raises:
        ValueError: a sequence alone is longer than the budget, or has no tokens; names it.
    """
    tokens = _checked(lengths)
    too_long = np.flatnonzero(tokens > token_budget)
    if too_long.size:
        first = int(too_long[0])
        raise ValueError(
            f"sequence {first} has {tokens[first]} tokens and the token budget of a micro-batch is "
            f"{token_budget} ({too_long.size} sequences are too long): raise the budget to at least "
            f"{int(tokens.max())}, or shorten the responses"
        )
    members: list[list[int]] = []
    room: list[int] = []
    for index in np.argsort(-tokens, kind="stable"):
        size = int(tokens[index])
        target = next((i for i, free in enumerate(room) if free >= size), None)
        if target is None:
            members.append([])
            room.append(token_budget)
            target = len(room) - 1
        members[target].append(int(index))
        room[target] -= size
    return [np.sort(np.array(member, dtype=np.int64)) for member in members]


def spread(
    batches: Sequence[Indices], lengths: npt.ArrayLike, costs: npt.ArrayLike, token_budget: int, count: int
) -> list[Indices]:
    """The sequences of `batches` in exactly `count` micro-batches of nearly equal cost.

    FSDP gathers parameters in every pass: all ranks make equally many, and each takes as long as the slowest
    rank's. The wanted count is the largest of any rank (an all-reduce of ``len(micro_batches(...))``).

    Longest first, each sequence goes to the cheapest micro-batch that has room for it. Where that leaves one
    without room, which a tight budget can do, the given batches stay and the dearest are split. Where there
    are fewer sequences than micro-batches, empty ones are appended, for which a rank still has to do a pass
    (see `filler`).

    Args:
        batches: as from `micro_batches`, with this budget.
        lengths: [sequences], tokens of each; the batches were made from them.
        costs: [sequences], of each, see `costs`.
        token_budget: tokens of a micro-batch.
        count: at least ``len(batches)``.

    Returns:
        `count` arrays of indices, every index in exactly one of them; some may be empty.

    Raises:
        ValueError: there are more batches than `count` already, or a sequence has no tokens.
    """
    if count < len(batches):
        raise ValueError(f"{count} micro-batches are wanted and there are {len(batches)} already")
    tokens, cost = _checked(lengths), np.asarray(costs, dtype=np.float64)
    if (placed := _by_cost(tokens, cost, token_budget, count)) is not None:
        return placed
    result = [np.asarray(batch, dtype=np.int64) for batch in batches]
    while len(result) < count:
        # One of several sequences is left: if each had a batch of its own, there would have been room above.
        dearest = max(range(len(result)), key=lambda i: cost[result[i]].sum() * (result[i].size > 1))
        batch = result.pop(dearest)
        result += [batch[half] for half in balanced_shards(cost[batch], 2)]
    return result


def _by_cost(
    tokens: Indices, cost: npt.NDArray[np.float64], token_budget: int, count: int
) -> list[Indices] | None:
    """Each sequence in the cheapest micro-batch with room; None where one finds none."""
    members: list[list[int]] = [[] for _ in range(count)]
    room, load = np.full(count, token_budget), np.zeros(count)
    for index in np.argsort(-tokens, kind="stable"):
        fits = room >= tokens[index]
        if not fits.any():
            return None
        target = int(np.argmin(np.where(fits, load, np.inf)))
        members[target].append(int(index))
        room[target] -= tokens[index]
        load[target] += cost[index]
    return [np.sort(np.array(member, dtype=np.int64)) for member in members]


def costs(lengths: npt.ArrayLike, pair_cost: float) -> npt.NDArray[np.float64]:
    """What each sequence takes of a pass, in tokens that have none before them: L + pair_cost * L^2.

    Products with weights grow with the tokens, attention with the pairs of a token and one before it.

    Args:
        lengths: tokens of each sequence.
        pair_cost: see `rlad_core.sizing.Shape.pair_cost`.
    """
    tokens = _checked(lengths).astype(np.float64)
    return tokens + pair_cost * tokens**2


def together(
    prompts: npt.ArrayLike, prompt_lengths: npt.ArrayLike, response_lengths: npt.ArrayLike, token_budget: int
) -> list[Indices]:
    """Which of N sequences share a prompt in one stream: all of it that the budget has room for.

    Args:
        prompts: [N], equal numbers for equal prompts.
        prompt_lengths, response_lengths: [N], in tokens.
        token_budget: of a prompt and the responses behind it. A longer sequence is alone.

    Returns:
        Arrays of indices, each rising and not empty, every index in exactly one of them.
    """
    prompt, before, own = np.asarray(prompts), np.asarray(prompt_lengths), np.asarray(response_lengths)
    units: list[Indices] = []
    for each in np.unique(prompt):
        rows = np.flatnonzero(prompt == each)
        ends, start = np.cumsum(own[rows]), 0
        while start < rows.size:
            taken = ends[start - 1] if start else 0
            room = token_budget - before[rows[0]] + taken
            stop = max(start + 1, int(np.searchsorted(ends, room, side="right")))
            units.append(rows[start:stop])
            start = stop
    return units


def _checked(lengths: npt.ArrayLike, dtype: type[np.generic] = np.int64) -> npt.NDArray[Any]:
    tokens = np.asarray(lengths, dtype=dtype)
    if tokens.ndim != 1:
        raise ValueError(f"lengths have shape {tokens.shape}, wanted one number per sequence")
    if (bad := np.flatnonzero(~(tokens >= 1))).size:
        raise ValueError(f"sequence {bad[0]} has {tokens[bad[0]]:g} tokens, wanted at least 1")
    return tokens
