"""From a step's table to shards: every row once, groups whole, weights those of the global mini-batch."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.assembly import ShardPlan, plan_shards
from rlad_core.objectives.aggregation import Aggregation, aggregation_weights
from rlad_core.objectives.top_d import TopD
from rlad_core.schema import SEQUENCES, build, tokenizer_fingerprint

FINGERPRINT = tokenizer_fingerprint({"a": 0, "b": 1})


def sequences(prompts: list[int], responses: list[int]) -> pa.Table:
    return build(
        SEQUENCES,
        {
            "sequence_id": [f"s{row}" for row in range(len(prompts))],
            "prompt_token_ids": [[0] * length for length in prompts],
            "response_token_ids": [[1] * length for length in responses],
        },
        tokenizer_fingerprint=FINGERPRINT,
    )


def sequence_mean(lengths: npt.NDArray[np.int64], _: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return aggregation_weights(lengths, "sequence_mean")


def merged(
    plans: list[ShardPlan],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Rows, mini-batches and weights of all ranks, by rising row."""
    rows = np.concatenate([plan.rows for plan in plans])
    order = np.argsort(rows)
    mini_batch = np.concatenate([plan.mini_batch for plan in plans])
    weights = np.concatenate([plan.token_weights for plan in plans])
    return rows[order], mini_batch[order], weights[order]


rows_of_groups = st.lists(
    st.tuples(st.integers(0, 7), st.integers(1, 9), st.integers(1, 30), st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(
    rows=rows_of_groups,
    mini_batches=st.integers(1, 5),
    ranks=st.integers(1, 4),
    aggregation=st.sampled_from(["sequence_mean", "token_mean", "fixed_length"]),
)
def test_rows_groups_and_weights(
    rows: list[tuple[int, int, int, bool]], mini_batches: int, ranks: int, aggregation: Aggregation
) -> None:
    group = np.array([row[0] for row in rows])
    responses = np.array([row[2] for row in rows])
    correct = np.array([row[3] for row in rows])
    fixed_length = 7 if aggregation == "fixed_length" else None
    table = sequences([row[1] for row in rows], responses.tolist()).append_column(
        "correct", pa.array(correct)
    )

    plans = plan_shards(
        table,
        groups=[f"g{number}" for number in group],
        mini_batches=mini_batches,
        ranks=ranks,
        token_weights=lambda lengths, _: aggregation_weights(lengths, aggregation, fixed_length),
    )

    assert len(plans) == ranks
    found, mini_batch, weights = merged(plans)
    assert found.tolist() == list(range(len(rows)))
    used = min(mini_batches, len(set(group.tolist())))
    assert set(mini_batch.tolist()) == set(range(used))
    for number in set(group.tolist()):
        assert len(set(mini_batch[group == number].tolist())) == 1, f"group {number} was split"
    for index in range(used):
        inside = mini_batch == index
        total = float((weights[inside] * responses[inside]).sum())
        # A mean's weights add up to one; a fixed length's to the mean length over it.
        wanted = 1.0 if fixed_length is None else responses[inside].mean() / fixed_length
        assert total == pytest.approx(wanted, rel=1e-12)
        if aggregation == "sequence_mean":
            np.testing.assert_allclose(weights[inside] * responses[inside], 1 / inside.sum())
        else:
            assert len(set(weights[inside].tolist())) == 1
    for plan in plans:
        for row, solved in zip(plan.rows, plan.group_has_correct, strict=True):
            assert solved == correct[group == group[row]].any()


@settings(max_examples=30, deadline=None)
@given(rows=rows_of_groups, mini_batches=st.integers(1, 4), ranks=st.integers(2, 4))
def test_the_number_of_ranks_changes_no_weight(
    rows: list[tuple[int, int, int, bool]], mini_batches: int, ranks: int
) -> None:
    table = sequences([row[1] for row in rows], [row[2] for row in rows])
    groups = [f"g{row[0]}" for row in rows]

    def plan(count: int) -> list[ShardPlan]:
        return plan_shards(
            table, groups=groups, mini_batches=mini_batches, ranks=count, token_weights=sequence_mean
        )

    for one, many in zip(merged(plan(1)), merged(plan(ranks)), strict=True):
        np.testing.assert_array_equal(one, many)


@settings(max_examples=30, deadline=None)
@given(rows=rows_of_groups, ranks=st.integers(2, 4))
def test_ranks_are_loaded_evenly_in_each_mini_batch(
    rows: list[tuple[int, int, int, bool]], ranks: int
) -> None:
    tokens = np.array([row[1] + row[2] for row in rows])
    table = sequences([row[1] for row in rows], [row[2] for row in rows])
    plans = plan_shards(
        table, groups=[f"g{row[0]}" for row in rows], mini_batches=2, ranks=ranks, token_weights=sequence_mean
    )
    for index in range(2):
        loads = [int(tokens[plan.rows[plan.mini_batch == index]].sum()) for plan in plans]
        assert max(loads) - min(loads) <= tokens.max()


def test_by_hand() -> None:
    # Tokens: group a 6 + 4, group b 3 + 3. Longest first: a alone, b alone.
    table = sequences([2, 2, 1, 1], [4, 2, 2, 2])
    (plan,) = plan_shards(
        table, groups=["a", "a", "b", "b"], mini_batches=2, ranks=1, token_weights=sequence_mean
    )
    assert plan.rows.tolist() == [0, 1, 2, 3]
    assert plan.mini_batch.tolist() == [0, 0, 1, 1]
    assert plan.token_weights.tolist() == [1 / 8, 1 / 4, 1 / 4, 1 / 4]
    assert plan.group_has_correct.tolist() == [False] * 4, "nothing was judged"


def test_a_mean_over_groups_is_of_those_of_a_mini_batch() -> None:
    # Of the first mini-batch a (4 + 2 tokens) and c (1 that counts), of the second b (2 + 2).
    table = sequences([2, 2, 1, 1, 1, 1], [4, 2, 2, 2, 3, 1])
    (plan,) = plan_shards(
        table,
        groups=["a", "a", "b", "b", "c", "c"],
        mini_batches=2,
        ranks=1,
        token_weights=TopD().token_weights,
        counted=np.array([True, True, True, True, False, True]),
    )
    by_row = dict(zip(plan.rows.tolist(), zip(plan.mini_batch, plan.token_weights, strict=True), strict=True))
    halves = {row: weight for row, (_, weight) in by_row.items()}
    together = {row for row, (number, _) in by_row.items() if number == by_row[0][0]}
    assert together == {0, 1}, "a alone, as long as b and c"
    assert halves == pytest.approx({0: 1 / 6, 1: 1 / 6, 2: 1 / 8, 3: 1 / 8, 4: 0, 5: 1 / 2})


def test_groups_may_lie_scattered_over_the_rows() -> None:
    table = sequences([1] * 6, [1, 2, 3, 4, 5, 6])
    plans = plan_shards(table, groups=["x", "y"] * 3, mini_batches=2, ranks=2, token_weights=sequence_mean)
    rows, mini_batch, _ = merged(plans)
    assert rows.tolist() == list(range(6))
    assert mini_batch.tolist() in ([0, 1] * 3, [1, 0] * 3)


def test_an_empty_batch_gives_every_rank_an_empty_plan() -> None:
    def refuse(lengths: npt.NDArray[np.int64], _: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        raise AssertionError("there is nothing to weigh")

    plans = plan_shards(sequences([], []), groups=[], mini_batches=2, ranks=3, token_weights=refuse)
    assert [len(plan.rows) for plan in plans] == [0, 0, 0]
    assert all(plan.rows.dtype == np.int64 for plan in plans)


def test_groups_that_do_not_match_the_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows and 1 groups"):
        plan_shards(
            sequences([1, 1], [1, 1]), groups=["a"], mini_batches=1, ranks=1, token_weights=sequence_mean
        )


def test_ranks_get_equal_cost_and_mini_batches_equal_tokens() -> None:
    # A pair costs 1 / 60: 60 tokens cost 120, and each of 10 costs 11.7, where by tokens six of them are 60.
    table = sequences([50] + [5] * 12, [10] + [5] * 12)
    groups = [f"g{row}" for row in range(13)]

    def tokens(mini_batches: int, ranks: int, pair_cost: float) -> list[list[int]]:
        plans = plan_shards(
            table,
            groups=groups,
            mini_batches=mini_batches,
            ranks=ranks,
            token_weights=sequence_mean,
            pair_cost=pair_cost,
        )
        lengths = np.array([60] + [10] * 12)
        return [[int(lengths[p.rows[p.mini_batch == m]].sum()) for m in range(mini_batches)] for p in plans]

    assert tokens(1, 2, 0.0) == [[90], [90]]
    assert tokens(1, 2, 1 / 60) == [[70], [110]]
    assert tokens(2, 1, 1 / 60) == [[90, 90]]


def test_ranks_share_the_rows_that_count_evenly() -> None:
    # By cost alone the first row would be one rank's, and the two that count the other's.
    table = sequences([1, 1, 1], [29, 9, 9])
    plans = plan_shards(
        table,
        groups=["a"] * 3,
        mini_batches=1,
        ranks=2,
        token_weights=sequence_mean,
        counted=np.array([False, True, True]),
    )
    assert [int((plan.token_weights > 0).sum()) for plan in plans] == [1, 1]
    assert sorted(row for plan in plans for row in plan.rows) == [0, 1, 2]
