"""Batching: nothing lost, nothing doubled, budgets kept, loads even, indexes of a packed stream right."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.batching import balanced_shards, costs, micro_batches, spread, together
from rlad_core.packing import filler, pack

many_lengths = st.lists(st.integers(1, 500), min_size=0, max_size=80)


def everything(parts: list[np.ndarray], count: int) -> bool:
    """Each of 0..count-1 in exactly one part."""
    return sorted(np.concatenate([np.empty(0, int), *parts]).tolist()) == list(range(count))


class TestShards:
    @given(many_lengths, st.integers(1, 9))
    @settings(max_examples=80, deadline=None)
    def test_even_and_complete(self, lengths: list[int], count: int) -> None:
        shards = balanced_shards(lengths, count)
        assert len(shards) == count
        assert everything(shards, len(lengths))
        assert all(np.all(np.diff(shard) > 0) for shard in shards)
        if len(lengths) >= count:
            assert all(shard.size for shard in shards)
        tokens = np.array(lengths, dtype=int)
        loads = [tokens[shard].sum() for shard in shards]
        if lengths:
            assert max(loads) - min(loads) <= max(lengths)
        assert all(np.array_equal(a, b) for a, b in zip(shards, balanced_shards(lengths, count), strict=True))

    def test_by_hand(self) -> None:
        assert [s.tolist() for s in balanced_shards([5, 4, 3, 3, 3], 2)] == [[0, 3], [1, 2, 4]]
        assert [s.tolist() for s in balanced_shards([7], 3)] == [[0], [], []]

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="sequence 1 has 0 tokens"):
            balanced_shards([3, 0], 2)
        with pytest.raises(ValueError, match="shards is 0"):
            balanced_shards([3], 0)
        with pytest.raises(ValueError, match="shape"):
            balanced_shards([[3]], 1)


class TestMicroBatches:
    @given(many_lengths, st.integers(500, 2000))
    @settings(max_examples=80, deadline=None)
    def test_within_the_budget_and_few(self, lengths: list[int], budget: int) -> None:
        batches = micro_batches(lengths, budget)
        tokens = np.array(lengths, dtype=int)
        assert everything(batches, len(lengths))
        assert all(batch.size and tokens[batch].sum() <= budget for batch in batches)
        # First-fit decreasing leaves at most one batch half empty.
        assert sum(2 * tokens[batch].sum() <= budget for batch in batches) <= 1

    def test_by_hand(self) -> None:
        assert [b.tolist() for b in micro_batches([6, 2, 5, 4, 3], 10)] == [[0, 3], [1, 2, 4]]

    def test_a_sequence_over_the_budget_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"sequence 1 has 11 tokens .* is 10 \(2 sequences .* least 12"):
            micro_batches([3, 11, 12], 10)

    @given(many_lengths, st.integers(500, 2000), st.integers(0, 30), st.sampled_from([0.0, 1e-3, 0.1]))
    @settings(max_examples=80, deadline=None)
    def test_equal_counts(self, lengths: list[int], budget: int, more: int, pair_cost: float) -> None:
        batches = micro_batches(lengths, budget)
        tokens = np.array(lengths, dtype=int)
        result = spread(batches, lengths, costs(lengths, pair_cost), budget, len(batches) + more)
        assert len(result) == len(batches) + more
        assert everything(result, len(lengths))
        assert all(tokens[batch].sum() <= budget for batch in result)
        empty = sum(batch.size == 0 for batch in result)
        assert empty == max(0, len(result) - len(lengths))

    @given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 8))
    @settings(max_examples=80, deadline=None)
    def test_costs_are_even_where_room_allows(self, lengths: list[int], count: int) -> None:
        each = costs(lengths, 0.01)
        result = spread([], lengths, each, sum(lengths), count)
        loads = [each[batch].sum() for batch in result]
        assert max(loads) - min(loads) <= max(each) * (1 + 1e-9)

    def test_costs_by_hand(self) -> None:
        assert costs([10, 20], 0.1).tolist() == [20.0, 60.0]
        # 60 + 3600 / 60 = 120, and 12 x (10 + 100 / 60) = 140: half of both is 130.
        lengths = [60, *[10] * 12]
        first, second = spread([], lengths, costs(lengths, 1 / 60), 1000, 2)
        assert [np.array(lengths)[part].sum() for part in (first, second)] == [70, 110]
        first, second = spread([], lengths, costs(lengths, 0.0), 1000, 2)
        assert [np.array(lengths)[part].sum() for part in (first, second)] == [90, 90]

    def test_without_room_the_dearest_is_split(self) -> None:
        # By cost 4 + 3 and 4 + 3 leave no room for 2.
        tight = micro_batches([4, 4, 3, 3, 2], 8)
        assert [b.tolist() for b in spread(tight, [4, 4, 3, 3, 2], [1] * 5, 8, 2)] == [[0, 1], [2, 3, 4]]
        # Of eleven batches nine would take 4 + 3, and the other two have room for four of the five 2s.
        lengths, each = [4] * 10 + [3] * 10 + [2] * 5, [1] * 10 + [9] * 10 + [1] * 5
        full = micro_batches(lengths, 8)
        assert len(full) == 10
        result = spread(full, lengths, each, 8, 11)
        assert len(result) == 11
        assert everything(result, 25)
        assert sorted(np.array(lengths)[b].sum() for b in result) == [3, 5] + [8] * 9

    def test_fewer_are_not_made(self) -> None:
        with pytest.raises(ValueError, match="1 micro-batches are wanted and there are 2"):
            spread(micro_batches([6, 6], 10), [6, 6], [6, 6], 10, 1)


class TestTogether:
    def test_by_hand(self) -> None:
        # Two prompts of 4 tokens; with a budget of 10, six tokens of responses fit behind one.
        units = together([0, 1, 0, 0, 1], [4, 4, 4, 4, 4], [3, 2, 3, 1, 4], 10)
        assert [unit.tolist() for unit in units] == [[0, 2], [3], [1, 4]]

    def test_a_sequence_over_the_budget_is_alone(self) -> None:
        assert [unit.tolist() for unit in together([0, 0], [4, 4], [9, 1], 10)] == [[0], [1]]

    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=20),
        st.integers(12, 40),
    )
    def test_all_are_in_one_and_none_needs_another(self, rows: list[tuple[int, int]], budget: int) -> None:
        prompts, own = map(list, zip(*rows, strict=True))
        units = together(prompts, [3] * len(rows), own, budget)
        assert sorted(np.concatenate(units).tolist()) == list(range(len(rows)))
        for unit, following in pairwise(units):
            size = 3 + sum(own[row] for row in unit)
            assert size <= budget
            assert len({prompts[row] for row in unit}) == 1
            if prompts[unit[0]] == prompts[following[0]]:
                assert size + own[following[0]] > budget


ids = st.lists(st.integers(0, 99), min_size=1, max_size=7)


def own_tokens(sequences: list[tuple[list[int], list[int]]], index: int) -> slice:
    """The places of a sequence's response tokens among those of all."""
    start = sum(len(response) for _, response in sequences[:index])
    return slice(start, start + len(sequences[index][1]))


class TestPack:
    def test_by_hand(self) -> None:
        batch = pack([([10, 11], [12, 13, 14]), ([20], [21])])
        assert batch.input_ids.tolist() == [10, 11, 12, 13, 14, 20, 21]
        assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 0, 1]
        assert batch.cu_seqlens.tolist() == [0, 5, 7]
        assert batch.response_index.tolist() == [1, 2, 3, 5]
        assert batch.response_ids.tolist() == [12, 13, 14, 21]
        assert batch.is_last.tolist() == [False, False, True, True]
        assert batch.max_length == 5
        assert batch.cu_seqlens.dtype == torch.int32
        assert batch.input_ids.dtype == batch.response_index.dtype == torch.int64

    @given(st.lists(st.tuples(ids, ids), min_size=1, max_size=10))
    @settings(max_examples=60, deadline=None)
    def test_the_stream_is_the_sequences(self, sequences: list[tuple[list[int], list[int]]]) -> None:
        batch = pack([(np.array(p, np.int32), np.array(r, np.int32)) for p, r in sequences])
        # The token after the predicting position is the response token, in the same sequence.
        assert torch.equal(batch.input_ids[batch.response_index + 1], batch.response_ids)
        assert torch.equal(
            batch.position_ids[batch.response_index] + 1, batch.position_ids[batch.response_index + 1]
        )
        bounds = batch.cu_seqlens.tolist()
        for index, (prompt, response) in enumerate(sequences):
            assert batch.input_ids[bounds[index] : bounds[index + 1]].tolist() == prompt + response
            mine = own_tokens(sequences, index)
            assert batch.response_ids[mine].tolist() == response
            assert batch.is_last[mine].tolist() == [False] * (len(response) - 1) + [True]

    def test_shared_prompts_by_hand(self) -> None:
        batch = pack([([7, 8], [1, 2, 3]), ([9], [4]), ([7, 8], [5, 6])], share_prompts=True)
        assert batch.input_ids.tolist() == [7, 8, 1, 2, 3, 9, 4, 5, 6]
        assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
        assert batch.cu_seqlens.tolist() == [0, 5, 7, 9]
        assert batch.shared is not None
        own, other, later = batch.shared.tolist()
        assert later == [0, 2]
        assert own[0] == own[1]
        assert other[0] == other[1]
        # The prompt's last token, at 1, predicts the first of either response.
        assert batch.response_index.tolist() == [1, 2, 3, 5, 1, 7]
        assert batch.response_ids.tolist() == [1, 2, 3, 4, 5, 6]
        assert batch.max_length == 5

    @given(st.lists(st.tuples(st.sampled_from([[1], [1, 2], [3, 4, 5]]), ids), min_size=1, max_size=10))
    @settings(max_examples=60, deadline=None)
    def test_shared_or_not_the_sequences_are_the_same(
        self, sequences: list[tuple[list[int], list[int]]]
    ) -> None:
        batch, plain = pack(sequences, share_prompts=True), pack(sequences)
        for name in ("response_ids", "is_last"):
            assert torch.equal(getattr(batch, name), getattr(plain, name))
        for packed in (batch, plain):
            bounds = packed.cu_seqlens.tolist()
            shared = [[0, 0]] * len(sequences) if packed.shared is None else packed.shared.tolist()
            for index, (prompt, response) in enumerate(sequences):
                rows = [*range(*shared[index]), *range(*bounds[index : index + 2])]
                assert packed.input_ids[rows].tolist() == prompt + response
                assert packed.position_ids[rows].tolist() == list(range(len(prompt) + len(response)))
                mine = packed.response_index[own_tokens(sequences, index)].tolist()
                assert mine == rows[len(prompt) - 1 : -1]
        assert batch.max_length == plain.max_length
        different = {tuple(prompt) for prompt, _ in sequences}
        assert len(batch.input_ids) == sum(map(len, different)) + len(batch.response_ids)

    def test_refusals_and_the_filler(self) -> None:
        with pytest.raises(ValueError, match=r"filler\(\)"):
            pack([])
        with pytest.raises(ValueError, match="sequence 1 has an empty response"):
            pack([([1], [2]), ([1], [])])
        with pytest.raises(ValueError, match="sequence 0 has an empty prompt"):
            pack([([], [2])])
        assert filler().input_ids.tolist() == [0, 0]
        assert filler().to("cpu").response_index.tolist() == [0]
