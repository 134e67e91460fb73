"""Responses that were cut off: counted, penalised by hand-computed amounts, or out of the loss."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from schema_tables import rewards, rollouts

from rlad_core import schema
from rlad_core.assembly import plan_shards
from rlad_core.objectives.aggregation import aggregation_weights
from rlad_core.overlong import is_cut_off, penalised, penalties


def test_the_penalty_grows_over_the_buffer() -> None:
    # DAPO's own numbers: 20,480 tokens at most, and 4,096 before them.
    lengths = [100, 16384, 16385, 18432, 20480]
    assert penalties(lengths, 20480, 4096).tolist() == [0, 0, 1 / 4096, 0.5, 1]
    # A response whose prompt left 300 tokens is judged by these.
    assert penalties([250, 275, 300], [300, 300, 300], 50, factor=2.0).tolist() == [0, 1, 2]


@pytest.fixture
def sampled() -> pa.Table:
    """Responses of 2, 3, 4 and 2 tokens to prompts of 2; the second and the last were cut off."""
    return rollouts(4)


def test_what_is_cut_off_is_said_by_its_finish(sampled: pa.Table) -> None:
    assert is_cut_off(sampled).tolist() == [False, True, False, True]


def test_rewards_lose_it_and_name_it(sampled: pa.Table) -> None:
    ids = schema.sequence_ids(sampled).to_pylist()
    given = rewards(ids[::-1])  # 3, 2, 1 and 0 in the order of the rollouts
    # Of 6 tokens together a response has 4, though 8 are allowed: 2 * 2/4, 2 * 3/4, 2 * 4/4, 2 * 2/4.
    found = penalised(given, sampled, longest=8, max_length=6, buffer=4, factor=2.0)
    of = {row["sequence_id"]: row for row in found.to_pylist()}
    assert [of[each]["reward"] for each in ids] == [3 - 1.0, 2 - 1.5, 1 - 2.0, 0 - 1.0]
    assert dict(of[ids[0]]["reward_parts"]) == {"format": 1.0, "answer": 2.0, "overlong": -1.0}
    assert found.column("sequence_id").to_pylist() == ids[::-1]


def test_masked_rows_weigh_nothing_and_no_mean_knows_of_them(sampled: pa.Table) -> None:
    def weights(counted: Any, aggregation: Any) -> list[float]:
        [plan] = plan_shards(
            sampled,
            groups=sampled.column("group_id").to_pylist(),
            mini_batches=1,
            ranks=1,
            token_weights=lambda lengths, _: aggregation_weights(lengths, aggregation),
            counted=counted,
        )
        # Those that weigh nothing come behind the others.
        return plan.token_weights[np.argsort(plan.rows)].tolist()  # type: ignore[no-any-return]

    kept = ~is_cut_off(sampled)
    assert weights(kept, "sequence_mean") == [1 / 4, 0, 1 / 8, 0]
    assert weights(kept, "token_mean") == [1 / 6, 0, 1 / 6, 0]
    assert weights(np.zeros(4, np.bool_), "token_mean") == [0, 0, 0, 0]
    assert weights(None, "token_mean") == [1 / 11] * 4
