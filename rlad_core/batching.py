"""From a global batch to shards, from shards to micro-batches, from a micro-batch to one packed stream.

Nothing here changes what is computed: the objectives' weights are set from the global batch, so any split
gives the same loss and gradient. The splits only decide how evenly the ranks are loaded and how much memory
one forward pass takes.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Indices = npt.NDArray[np.int64]


def balanced_shards(lengths: npt.ArrayLike, shards: int) -> list[Indices]:
    """Split sequences into shards of nearly equal token load (longest first, each to the lightest shard).

    Deterministic. The loads of two shards that hold more than one sequence differ by no more than the longest
    sequence (Graham's bound for list scheduling).

    Args:
        lengths: tokens of each sequence, all positive.
        shards: how many, at least 1.

    Returns:
        `shards` arrays of indices, each rising, every index in exactly one of them. None is empty where there
        are at least as many sequences as shards.
    """
    tokens = _checked(lengths)
    if shards < 1:
        raise ValueError(f"shards is {shards}, wanted at least 1")
    members: list[list[int]] = [[] for _ in range(shards)]
    loads = [(0, shard) for shard in range(shards)]
    for index in np.argsort(-tokens, kind="stable"):
        load, shard = heapq.heappop(loads)
        members[shard].append(int(index))
        heapq.heappush(loads, (load + int(tokens[index]), shard))
    return [np.sort(np.array(member, dtype=np.int64)) for member in members]


def micro_batches(lengths: npt.ArrayLike, token_budget: int) -> list[Indices]:
    """Group sequences into few micro-batches of at most `token_budget` tokens (first-fit decreasing).

    Returns:
        Arrays of indices, each rising and not empty, every index in exactly one of them.

    Raises:
        ValueError: a sequence alone is longer than the budget.
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


def equalise(batches: Sequence[Indices], lengths: npt.ArrayLike, count: int) -> list[Indices]:
    """Exactly `count` micro-batches out of fewer, so that all ranks do the same number of forward passes.

    FSDP gathers parameters in every forward pass: a rank with fewer passes than the others would leave them
    waiting. The wanted count is the largest of any rank (an all-reduce of ``len(micro_batches(...))``).

    The heaviest batch is split in two until there are enough; where nothing is left to split, empty ones are
    appended, for which a rank still has to do a pass (see `filler`).

    Args:
        batches: as from `micro_batches`.
        lengths: the lengths they were made from.
        count: at least ``len(batches)``.
    """
    if count < len(batches):
        raise ValueError(f"{count} micro-batches are wanted and there are {len(batches)} already")
    tokens = _checked(lengths)
    result = [np.asarray(batch, dtype=np.int64) for batch in batches]
    while len(result) < count:
        loads = [int(tokens[batch].sum()) if batch.size > 1 else 0 for batch in result]
        heaviest = int(np.argmax(loads)) if loads else 0
        if not loads or loads[heaviest] == 0:
            result.append(np.empty(0, dtype=np.int64))
            continue
        batch = result.pop(heaviest)
        result += [batch[half] for half in balanced_shards(tokens[batch], 2)]
    return result


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end in one stream of T tokens, with R response tokens among them in S sequences.

    Attributes:
        input_ids: int64 [T], prompt and response of each sequence in turn.
        position_ids: int64 [T], from 0 in each sequence; a restart is what tells attention of a new sequence.
        cu_seqlens: int32 [S + 1], start of each sequence and T at the end.
        response_index: int64 [R], position in the stream whose hidden state predicts this response token,
            that is, the position before it.
        response_ids: int64 [R], the response tokens themselves.
        sequence_index: int64 [R], sequence of each response token, 0..S-1.
        is_last: bool [R], final token of its response.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    response_index: Tensor
    response_ids: Tensor
    sequence_index: Tensor
    is_last: Tensor

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence."""
        return int(self.cu_seqlens.diff().max())

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The same batch on `device`."""
        return PackedBatch(**{name: value.to(device) for name, value in vars(self).items()})


def pack(sequences: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]) -> PackedBatch:
    """Pack (prompt_token_ids, response_token_ids) pairs into one stream.

    Response tokens keep their order: those of sequence 0, then of sequence 1, ..., so a flat array of values
    per response token (see `rlad_core.schema.flatten`) lines up with `response_index`.

    Raises:
        ValueError: no sequences, or an empty prompt or response; names the sequence.
    """
    if not sequences:
        raise ValueError("nothing to pack; for a pass without sequences use filler()")
    pairs = [(np.asarray(prompt), np.asarray(response)) for prompt, response in sequences]
    prompts = np.array([prompt.size for prompt, _ in pairs], dtype=np.int64)
    responses = np.array([response.size for _, response in pairs], dtype=np.int64)
    for what, sizes in (("prompt", prompts), ("response", responses)):
        if (empty := np.flatnonzero(sizes == 0)).size:
            raise ValueError(f"sequence {empty[0]} has an empty {what}")
    totals = prompts + responses
    bounds = np.concatenate([[0], np.cumsum(totals)])
    sequence_index = np.repeat(np.arange(len(pairs)), responses)
    # Number of each response token inside its own response: 0, 1, ...
    within = np.arange(responses.sum()) - np.repeat(np.cumsum(responses) - responses, responses)
    return PackedBatch(
        input_ids=_integers(np.concatenate([part for pair in pairs for part in pair])),
        position_ids=_integers(np.arange(bounds[-1]) - np.repeat(bounds[:-1], totals)),
        cu_seqlens=_integers(bounds).to(torch.int32),
        response_index=_integers((bounds[:-1] + prompts - 1)[sequence_index] + within),
        response_ids=_integers(np.concatenate([response for _, response in pairs])),
        sequence_index=_integers(sequence_index),
        is_last=torch.from_numpy(within == responses[sequence_index] - 1),
    )


def filler(token_id: int = 0) -> PackedBatch:
    """A batch of two tokens for a rank that has no sequences left; its response token must get weight 0."""
    return pack([([token_id], [token_id])])


def _integers(values: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))


def _checked(lengths: npt.ArrayLike) -> Indices:
    tokens = np.asarray(lengths, dtype=np.int64)
    if tokens.ndim != 1:
        raise ValueError(f"lengths have shape {tokens.shape}, wanted one number per sequence")
    if (bad := np.flatnonzero(tokens < 1)).size:
        raise ValueError(f"sequence {bad[0]} has {tokens[bad[0]]} tokens, wanted at least 1")
    return tokens
