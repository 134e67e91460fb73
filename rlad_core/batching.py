"""From a global batch to shards, from shards to micro-batches, from a micro-batch to one packed stream.

Nothing here changes what is computed: the objectives' weights are set from the global batch, so any split
gives the same loss and gradient. The splits only decide how evenly the ranks are loaded and how much memory
one forward pass takes.

Sequences of one prompt may share it: the stream then has it once, and is shorter by two fifths for eight
responses of 90 tokens to a prompt of 60. Products and norms see each token once; attention finds a sequence's
tokens wherever they lie. A prompt's gradient is the sum over the sequences behind it.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Indices = npt.NDArray[np.int64]


def balanced_shards(loads: npt.ArrayLike, shards: int) -> list[Indices]:
    """Split sequences into shards of nearly equal load (heaviest first, each to the lightest shard).

    Deterministic. The loads of two shards that hold more than one sequence differ by no more than the
    heaviest sequence (Graham's bound for list scheduling).

    Args:
        loads: of each sequence, all positive: its tokens, or its cost (`costs`).
        shards: how many, at least 1.

    Returns:
        `shards` arrays of indices, each rising, every index in exactly one of them. None is empty where there
        are at least as many sequences as shards.
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
        lengths: tokens of each sequence; the batches were made from them.
        costs: of each sequence, see `costs`.
        token_budget: tokens of a micro-batch.
        count: at least ``len(batches)``.
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


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end in one stream of T tokens, with R response tokens among them in S sequences.

    Attributes:
        input_ids: int64 [T], prompt and response of each sequence in turn; of a sequence that continues a
            prompt which is there already, the response alone.
        position_ids: int64 [T], place of each token in its sequence, from 0.
        cu_seqlens: int32 [S + 1], where the tokens of each sequence start, and T at the end.
        shared: int32 [S, 2], start and end of the prompt before those tokens, equal where they begin with
            their own; None: all do.
        response_index: int64 [R], position in the stream whose hidden state predicts this response token,
            that is, the position before it.
        response_ids: int64 [R], the response tokens themselves.
        sequence_index: int64 [R], sequence of each response token, 0..S-1.
        is_last: bool [R], final token of its response.
        named_ids: int64 [R, m], more tokens whose log-probs are wanted in the place of each response token;
            None: none.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    response_index: Tensor
    response_ids: Tensor
    sequence_index: Tensor
    is_last: Tensor
    named_ids: Tensor | None = None
    shared: Tensor | None = None

    @property
    def asked_ids(self) -> Tensor:
        """``response_ids``; with them in the first column of [R, 1 + m] where more are named."""
        if self.named_ids is None:
            return self.response_ids
        return torch.cat([self.response_ids[:, None], self.named_ids], dim=1)

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence."""
        own = self.cu_seqlens.diff()
        return int((own if self.shared is None else own + self.shared.diff(dim=1)[:, 0]).max())

    def with_alternatives(self, places: Indices, token_ids: Sequence[int]) -> "PackedBatch":
        """The same batch, that also asks for other tokens in place of some response tokens.

        ``response_index`` and ``response_ids`` get ``len(places) * len(token_ids)`` more entries at the end,
        place by place; all else stays.

        Args:
            places: int64 [P], numbers of response tokens, 0..R-1.
            token_ids: what could stand there.
        """
        at = self.response_index[torch.from_numpy(places)].repeat_interleave(len(token_ids))
        ids = torch.tensor(token_ids, dtype=torch.int64).repeat(len(places))
        return replace(
            self,
            response_index=torch.cat([self.response_index, at]),
            response_ids=torch.cat([self.response_ids, ids]),
        )

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The same batch on `device`."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return PackedBatch(**moved)


def pack(
    sequences: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, share_prompts: bool = False
) -> PackedBatch:
    """Pack (prompt_token_ids, response_token_ids) pairs into one stream.

    Response tokens keep their order: those of sequence 0, then of sequence 1, ..., so a flat array of values
    per response token (see `rlad_core.schema.flatten`) lines up with `response_index`.

    Args:
        share_prompts: a prompt stands in the stream once, before the first of its responses.

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
    first = np.arange(len(pairs))  # the sequence whose prompt each continues
    if share_prompts:
        seen: dict[bytes, int] = {}
        first = np.array([seen.setdefault(p.tobytes(), index) for index, (p, _) in enumerate(pairs)])
    carries = first == np.arange(len(pairs))
    own = np.where(carries, prompts, 0) + responses
    bounds = np.concatenate([[0], np.cumsum(own)])
    prompt_ends = bounds[first] + prompts
    sequence_index = np.repeat(np.arange(len(pairs)), responses)
    # Number of each response token inside its own response: 0, 1, ...
    within = np.arange(responses.sum()) - np.repeat(np.cumsum(responses) - responses, responses)
    # The token before it: in the stream too, but where a response begins behind a prompt that lies elsewhere.
    before = (bounds[1:] - responses - 1)[sequence_index] + within
    return PackedBatch(
        input_ids=_integers(
            np.concatenate(
                [
                    part
                    for pair, mine in zip(pairs, carries, strict=True)
                    for part in (pair if mine else pair[1:])
                ]
            )
        ),
        position_ids=_integers(
            np.arange(bounds[-1]) - np.repeat(bounds[:-1] - np.where(carries, 0, prompts), own)
        ),
        cu_seqlens=_integers(bounds).to(torch.int32),
        response_index=_integers(np.where(within == 0, prompt_ends[sequence_index] - 1, before)),
        response_ids=_integers(np.concatenate([response for _, response in pairs])),
        sequence_index=_integers(sequence_index),
        is_last=torch.from_numpy(within == responses[sequence_index] - 1),
        shared=None
        if carries.all()
        else _integers(np.stack([bounds[first], np.where(carries, bounds[first], prompt_ends)], axis=1)).to(
            torch.int32
        ),
    )


def filler(token_id: int = 0) -> PackedBatch:
    """A batch of two tokens for a rank that has no sequences left; its response token must get weight 0."""
    return pack([([token_id], [token_id])])


def _integers(values: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))


def _checked(lengths: npt.ArrayLike, dtype: type[np.generic] = np.int64) -> npt.NDArray[Any]:
    tokens = np.asarray(lengths, dtype=dtype)
    if tokens.ndim != 1:
        raise ValueError(f"lengths have shape {tokens.shape}, wanted one number per sequence")
    if (bad := np.flatnonzero(~(tokens >= 1))).size:
        raise ValueError(f"sequence {bad[0]} has {tokens[bad[0]]:g} tokens, wanted at least 1")
    return tokens
