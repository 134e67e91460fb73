"""A shard's rows as tensors, against small tables written out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from shard_rows import FINGERPRINT, PLAN, PROMPTS, RESPONSES, experience
from torch import Tensor

from rlad_core.assembly import ShardPlan, plan_shards
from rlad_core.objectives.grpo import GRPO
from rlad_core.schema import SEQUENCES, build, from_ipc, to_ipc
from services.learner.training_rows import TrainingRows


def sequences() -> pa.Table:
    return build(
        SEQUENCES,
        {
            "sequence_id": ["a", "b", "c"],
            "prompt_token_ids": PROMPTS,
            "response_token_ids": RESPONSES,
        },
        tokenizer_fingerprint=FINGERPRINT,
    )


def batch_of(rows: TrainingRows, members: list[int]) -> Any:
    chosen = np.array(members)
    packed = rows.pack(chosen)
    logprobs = torch.arange(packed.response_ids.numel(), dtype=torch.float32).mul(-0.1).requires_grad_()
    return rows.token_batch(chosen, packed, logprobs, entropy=None), packed, logprobs


def assert_values(tensor: Tensor | None, wanted: list[Any]) -> None:
    assert tensor is not None
    assert tensor.dtype == (torch.bool if isinstance(wanted[0], bool) else torch.float32)
    torch.testing.assert_close(tensor, torch.tensor(wanted), rtol=0, atol=0)


def test_the_columns_of_experience() -> None:
    batch, packed, logprobs = batch_of(TrainingRows(experience(), PLAN), [0, 1, 2])
    assert packed.input_ids.tolist() == [1, 2, 10, 11, 12, 3, 20, 4, 5, 6, 30, 31]
    assert packed.response_ids.tolist() == [10, 11, 12, 20, 30, 31]
    assert_values(batch.rollout_logprobs, [-0.5, -1.0, -1.5, -2.0, -0.25, -0.75])
    assert_values(batch.teacher_logprobs, [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6])
    assert batch.policy_versions.tolist() == [4, 4, 5, 5, 3, 4]
    assert_values(batch.advantages, [1.0, 1.0, 1.0, -1.0, 0.5, 0.5])
    assert_values(batch.weights, [0.125, 0.125, 0.125, 0.25, 0.5, 0.5])
    assert_values(batch.is_last, [False, False, True, True, False, True])
    assert_values(batch.is_correct, [True, True, True, False, False, False])
    assert_values(batch.group_has_correct, [True, True, True, True, False, False])
    assert batch.policy_logprobs is logprobs
    assert_values(batch.old_logprobs, logprobs.tolist())
    assert not batch.old_logprobs.requires_grad
    assert batch.entropy is None


def test_rows_are_taken_in_the_order_asked_for() -> None:
    batch, packed, _ = batch_of(TrainingRows(experience(), PLAN), [2, 0])
    assert packed.response_ids.tolist() == [30, 31, 10, 11, 12]
    assert_values(batch.rollout_logprobs, [-0.25, -0.75, -0.5, -1.0, -1.5])
    assert_values(batch.teacher_logprobs, [-0.5, -0.6, -0.1, -0.2, -0.3])
    assert_values(batch.advantages, [0.5, 0.5, 1.0, 1.0, 1.0])
    assert_values(batch.weights, [0.5, 0.5, 0.125, 0.125, 0.125])


def test_old_logprobs_of_several_updates() -> None:
    rows = TrainingRows(experience(), PLAN)
    rows.old.logprobs = dict(enumerate(map(torch.tensor, ([-1.0, -2.0, -3.0], [-4.0], [-5.0, -6.0]))))
    batch, _, _ = batch_of(rows, [2, 0])
    assert_values(batch.old_logprobs, [-5.0, -6.0, -1.0, -2.0, -3.0])


def test_rows_before_any_update_are_their_own_old_policy() -> None:
    rows = TrainingRows(experience(), PLAN)
    rows.old.logprobs = {2: torch.tensor([-5.0, -6.0])}
    batch, _, logprobs = batch_of(rows, [0, 1])
    assert_values(batch.old_logprobs, logprobs.tolist())
    assert_values(batch_of(rows, [2])[0].old_logprobs, [-5.0, -6.0])


def test_without_a_teacher() -> None:
    batch, _, _ = batch_of(TrainingRows(experience(teacher=False), PLAN), [0, 2])
    assert batch.teacher_logprobs is None


def test_supervised_rows_have_no_rollout() -> None:
    rows = TrainingRows(sequences(), PLAN)
    assert not rows.needs_old_logprobs
    batch, _, logprobs = batch_of(rows, [0, 1])
    assert_values(batch.rollout_logprobs, logprobs.tolist())
    assert_values(batch.weights, [0.125, 0.125, 0.125, 0.25])
    assert batch.teacher_logprobs is None
    assert batch.policy_versions is None


def test_counts_and_mini_batches() -> None:
    rows = TrainingRows(experience(), PLAN)
    assert (len(rows), rows.response_tokens, rows.mini_batches) == (3, 6, 2)
    assert rows.needs_old_logprobs
    assert (rows.lengths.tolist(), rows.response_lengths.tolist()) == ([5, 2, 5], [3, 1, 2])
    assert rows.of_mini_batches([0]).tolist() == [0, 1]
    assert rows.of_mini_batches([1, 0]).tolist() == [0, 1, 2]
    assert rows.of_mini_batches([2]).tolist() == [], "another rank may know of more"
    assert rows.taught_mini_batches.tolist() == [0, 1]
    first_without_weight = replace(PLAN, token_weights=np.array([0.0, 0.0, 0.5]))
    assert TrainingRows(experience(), first_without_weight).taught_mini_batches.tolist() == [1]


def test_rows_of_which_no_token_counts_are_left_out() -> None:
    second_without_weight = replace(PLAN, token_weights=np.array([0.25, 0.0, 0.5]))
    rows = TrainingRows(experience(), second_without_weight)
    assert rows.of_mini_batches([0]).tolist() == [0]
    assert rows.of_mini_batches([0, 1]).tolist() == [0, 2]
    assert len(rows) == 3


@pytest.mark.parametrize("table", [experience, sequences])
def test_a_rank_without_rows(table: Any) -> None:
    nothing = np.empty(0, np.int64)
    plan = ShardPlan(nothing, nothing, np.empty(0), np.empty(0, np.bool_))
    rows = TrainingRows(table().take(pa.array(nothing)), plan)
    assert (len(rows), rows.response_tokens, rows.mini_batches) == (0, 0, 0)
    assert rows.of_mini_batches([0]).size == rows.taught_mini_batches.size == 0


def test_a_table_in_several_chunks_or_as_a_slice_reads_the_same() -> None:
    whole = experience()
    several = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    padded = pa.concat_tables([whole, whole]).combine_chunks().slice(3)
    arrived = from_ipc(to_ipc(whole))
    wanted, _, _ = batch_of(TrainingRows(whole, PLAN), [0, 1, 2])
    for table in (several, padded, arrived):
        batch, _, _ = batch_of(TrainingRows(table, PLAN), [0, 1, 2])
        for name in ("rollout_logprobs", "teacher_logprobs", "advantages", "weights", "is_correct"):
            assert torch.equal(getattr(batch, name), getattr(wanted, name)), name


def test_ranks_and_mini_batches_together_hold_the_planned_weights() -> None:
    """The loss of all ranks adds up to the objective's mean: with a token loss of 1, to 1 per mini-batch."""
    table = experience()
    objective = GRPO()
    plans = plan_shards(
        table,
        groups=table["group_id"].to_pylist(),
        mini_batches=2,
        ranks=2,
        token_weights=objective.token_weights,
    )
    totals = {0: 0.0, 1: 0.0}
    for plan in plans:
        rows = TrainingRows(table.take(plan.rows), plan)
        for index in totals:
            members = rows.of_mini_batches([index])
            if members.size:
                batch, _, _ = batch_of(rows, members.tolist())
                totals[index] += float(batch.weights.sum())
    assert totals == pytest.approx({0: 1.0, 1: 1.0})


def test_tokens_older_than_the_plan_allows_have_no_weight() -> None:
    plan = ShardPlan(
        np.arange(3), np.zeros(3, int), np.array([0.5, 0.25, 0.125]), np.ones(3, bool), range(4, 6)
    )
    rows = TrainingRows(experience(), plan)
    members = np.arange(3)
    packed = rows.pack(members)
    batch = rows.token_batch(members, packed, torch.zeros(6, requires_grad=True), None)
    # Versions 4 4 5 | 5 | 3 4.
    assert batch.weights.tolist() == [0.5, 0.5, 0.5, 0.25, 0.0, 0.125]
    assert batch.old_logprobs.numel() == 6  # the old token stays where younger ones attend to it
