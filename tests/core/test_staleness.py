"""Tokens of two policy versions, worked out by hand: which count, and what their age does to the loss."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from rlad_core.assembly import plan_shards
from rlad_core.objectives.ages import by_age
from rlad_core.objectives.aggregation import aggregation_weights
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.interface import TokenBatch
from rlad_core.objectives.trrd import TRRD
from rlad_core.staleness import tokens_by_version, trained_tokens, young_tokens

VERSIONS = [[3, 3, 4], [5], [4, 5, 5, 5], [2, 3]]


def table() -> pa.Table:
    return pa.table(
        {
            "prompt_token_ids": [[1]] * 4,
            "response_token_ids": [[7] * len(each) for each in VERSIONS],
            "policy_versions": pa.array(VERSIONS, pa.list_(pa.int32())),
        }
    )


def test_tokens_that_are_young_enough() -> None:
    assert young_tokens(table(), range(0, 6)).tolist() == [3, 1, 4, 2]
    assert young_tokens(table(), range(4, 6)).tolist() == [1, 1, 4, 0]
    assert young_tokens(table().slice(1, 2), range(5, 6)).tolist() == [1, 3]
    assert young_tokens(table().drop_columns("policy_versions"), range(4, 6)).tolist() == [3, 1, 4, 2]


def test_tokens_of_each_version() -> None:
    assert tokens_by_version(table()) == {2: 1, 3: 3, 4: 2, 5: 4}
    assert tokens_by_version(table().slice(3)) == {2: 1, 3: 1}
    assert tokens_by_version(table().slice(4)) == {}
    far = pa.table({"policy_versions": pa.array([[7, 900], [7]], pa.list_(pa.int32()))})
    assert tokens_by_version(far) == {7: 2, 900: 1}


def test_tokens_that_are_trained_on() -> None:
    assert trained_tokens(table(), range(4, 6)) == 6
    assert trained_tokens(table(), range(4, 6), np.array([True, True, False, True])) == 2
    assert trained_tokens(table().slice(0, 0), range(4, 6)) == 0


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("sequence_mean", [1 / 3, 1 / 3, 1 / 12, 0.0]),  # three responses have tokens that count
        ("token_mean", [1 / 6, 1 / 6, 1 / 6, 0.0]),  # 1 + 1 + 4 tokens
    ],
)
def test_no_denominator_knows_of_old_tokens(aggregation: str, expected: list[float]) -> None:
    [plan] = plan_shards(
        table(),
        groups=["a", "a", "b", "b"],
        mini_batches=1,
        ranks=1,
        token_weights=lambda lengths, _: aggregation_weights(lengths, aggregation),  # type: ignore[arg-type]
        counted_versions=range(4, 6),
    )
    assert plan.counted_versions == range(4, 6)
    weights = plan.token_weights[np.argsort(plan.rows)]
    assert weights == pytest.approx(expected, abs=1e-12)


def batch(**columns: torch.Tensor) -> TokenBatch:
    """Three tokens of one response, trained on in step 5 with bound 1; the first is of version 3."""
    policy = torch.tensor([0.5, 0.25, 0.2]).log().requires_grad_()
    return TokenBatch(
        **{
            "policy_logprobs": policy,
            "old_logprobs": policy.detach(),
            # Version 4 gave 0.2 to the second token, version 5, the policy itself, 0.2 to the third.
            "rollout_logprobs": torch.tensor([0.1, 0.2, 0.2]).log(),
            "policy_versions": torch.tensor([3, 4, 5], dtype=torch.int32),
            "advantages": torch.full((3,), 2.0),
            "weights": torch.tensor([0.0, 0.5, 0.5]),
            **columns,
        }
    )


def test_an_age_enters_through_the_truncated_weight_alone() -> None:
    given = batch()
    output = GRPO()(given, 5)
    # rho = 1 for all: pi_old is the policy at the start of the step, whoever sampled the token.
    # -(0.5 * 2 * 0.25 / 0.2 + 0.5 * 2 * 1)
    assert output.loss.item() == pytest.approx(-(1.25 + 1.0))
    output.loss.backward()
    assert given.policy_logprobs.grad is not None
    assert given.policy_logprobs.grad.tolist() == pytest.approx([0.0, -1.25, -1.0])


def test_the_weight_of_an_old_token_is_cut_at_the_cap() -> None:
    given = batch(rollout_logprobs=torch.tensor([0.1, 0.05, 0.2]).log())
    assert GRPO()(given, 5).loss.item() == pytest.approx(-(2.0 + 1.0))  # 0.25 / 0.05 = 5, cut to 2


def test_the_anchor_of_trrd_has_the_same_old_policy() -> None:
    given = batch(teacher_logprobs=torch.tensor([0.5, 0.2, 0.25]).log())
    output = TRRD(alpha=0.5)(given, 5)
    # rho = (pi_theta / pi_T)^0.5: sqrt(0.25 / 0.2) = 1.118 and sqrt(0.2 / 0.25) = 0.894, in 0.8..1.28.
    expected = -(0.5 * 2 * math.sqrt(1.25) * 1.25 + 0.5 * 2 * math.sqrt(0.8))
    assert output.loss.item() == pytest.approx(expected)


def test_two_updates_keep_the_policy_that_the_step_began_with() -> None:
    given = batch(old_logprobs=torch.tensor([0.5, 0.2, 0.25]).log())
    # rho = 0.25 / 0.2 = 1.25 and 0.2 / 0.25 = 0.8; the weights 0.2 / 0.2 = 1 and 0.25 / 0.2 = 1.25.
    assert GRPO()(given, 5).loss.item() == pytest.approx(-(1.25 * 1 + 0.8 * 1.25))


def test_statistics_of_each_age() -> None:
    told = {name: each.mean for name, each in by_age(batch(), range(4, 6), cap=1.1).items()}
    assert told == pytest.approx(
        {
            "token_share_at_age_0": 0.5,
            "mismatch_at_age_0": 0.0,
            "importance_weight_at_age_0": 1.0,
            "capped_share_at_age_0": 0.0,
            "token_share_at_age_1": 0.5,
            "mismatch_at_age_1": math.log(1.25),
            "importance_weight_at_age_1": 1.1,
            "capped_share_at_age_1": 1.0,
        },
        abs=1e-6,
    )
    assert "capped_share_at_age_1" not in by_age(batch(), range(4, 6), cap=None)


def test_a_young_token_of_a_response_that_does_not_count_has_no_age() -> None:
    told = by_age(batch(weights=torch.tensor([0.0, 0.5, 0.0])), range(4, 6), cap=1.1)
    assert (told["token_share_at_age_0"].mean, told["token_share_at_age_1"].mean) == (0.0, 1.0)
    assert math.isnan(told["mismatch_at_age_0"].mean)


def test_statistics_are_means_over_trained_tokens() -> None:
    """Only the second and third token are: mismatches log 1.25 and 0, policy of 0.25 and 0.2, teacher 0.5."""
    entropy = torch.tensor([9.0, 1.0, 2.0])
    given = batch(entropy=entropy, teacher_logprobs=torch.tensor([0.01, 0.5, 0.5]).log())
    told = {name: each.mean for name, each in TRRD(alpha=0.5)(given, 5).statistics.items()}
    assert told["entropy"] == 1.5
    assert told["mismatch"] == pytest.approx(math.log(1.25) / 2, abs=1e-6)
    assert told["mismatch_outside_share"] == 0.5
    assert told["importance_weight"] == pytest.approx((1.25 + 1) / 2)
    assert told["kl_to_teacher"] == pytest.approx((math.log(0.5) + math.log(0.4)) / 2, abs=1e-6)
    # rho is sqrt(0.25 / 0.5) and sqrt(0.2 / 0.5), A > 0: none is above 1.28. The first token's, 7, is.
    assert told["ratio"] == pytest.approx((math.sqrt(0.5) + math.sqrt(0.4)) / 2)
    assert told["clip_fraction_high"] == 0


def test_what_overflows_on_a_token_without_weight_reaches_nothing() -> None:
    given = batch(
        advantages=torch.full((3,), -2.0),
        teacher_logprobs=torch.tensor([-500.0, math.log(0.25), math.log(0.2)]),
    )
    output = TRRD(alpha=0.5, teacher_clamp=None)(given, 5)
    assert output.loss.item() == pytest.approx(0.5 * 2 * 1.25 + 0.5 * 2)  # rho = 1 on both
    output.loss.backward()
    assert given.policy_logprobs.grad is not None
    assert given.policy_logprobs.grad.tolist() == pytest.approx([0.0, 1.25, 1.0])
