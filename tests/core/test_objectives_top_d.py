"""TOP-D's rewards, returns and loss, against values worked out by hand."""

import math

import pytest
import torch
from hypothesis import given as examples
from hypothesis import strategies as st
from token_batches import batch, gradient, tokens
from torch import Tensor

from rlad_core.objectives import TokenBatch
from rlad_core.objectives.returns import TokenReturns, with_mean_of_later
from rlad_core.objectives.top_d import TopD

LN = math.log


def said(*probabilities: float) -> Tensor:
    return tokens(*(LN(each) if each else -math.inf for each in probabilities))


def places(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def of(objective: TopD, given: TokenBatch) -> tuple[list[float], list[bool]]:
    told = objective.token_returns(given, 0)
    assert told.values.dtype == torch.float64
    return told.values.tolist(), told.counts.tolist()


def test_rewards_are_bounded_below_by_the_students_share() -> None:
    # 0.8 * 1.5 + 0.2 = 1.4; 0.8 * 0.5 + 0.2 = 0.6; a token that the teacher excludes: 0.2.
    ratio = tokens(LN(1.5), LN(0.5), -math.inf)
    assert TopD(share=0.8).token_rewards(ratio).tolist() == pytest.approx([LN(1.4), LN(0.6), LN(0.2)])
    assert TopD(share=1).token_rewards(ratio[:2]).tolist() == pytest.approx([LN(1.5), LN(0.5)])
    # The student hardly ever says it, and exp(d) would overflow.
    assert TopD(share=0.5).token_rewards(tokens(2000)).tolist() == pytest.approx([2000 + LN(0.5)])


def test_a_return_is_the_reward_and_the_mean_of_those_after_it() -> None:
    # Responses of 3, 1 and 2 tokens with rewards 1 2 6 | 4 | -3 5.
    found = with_mean_of_later(tokens(1, 2, 6, 4, -3, 5), places(0, 0, 1, 1, 0, 1), places(1, 1, 1, 1, 1, 1))
    assert found.tolist() == [1 + 4, 2 + 6, 6, 4, -3 + 5, 5]
    # Without the 6 and the -3: the last but one of the first response has none after it.
    found = with_mean_of_later(tokens(1, 2, 6, 4, -3, 5), places(0, 0, 1, 1, 0, 1), places(1, 1, 0, 1, 0, 1))
    assert found[places(1, 1, 0, 1, 0, 1)].tolist() == [1 + 2, 2, 4, 5]


@examples(st.lists(st.integers(1, 6), max_size=6), st.integers(0, 2**31))
def test_a_return_is_of_its_own_response(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(sum(lengths), generator=generator)
    counted = torch.rand(sum(lengths), generator=generator) < 0.7
    last = torch.zeros(sum(lengths), dtype=torch.bool)
    last[torch.tensor(lengths, dtype=torch.long).cumsum(0) - 1] = True
    found = with_mean_of_later(rewards, last, counted)
    start = 0
    for length in lengths:
        for place in range(start, start + length):
            later = [float(rewards[j]) for j in range(place + 1, start + length) if counted[j]]
            if counted[place]:
                wanted = float(rewards[place]) + (sum(later) / len(later) if later else 0.0)
                assert float(found[place]) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        start += length


def test_returns_under_the_old_policy() -> None:
    # pi_T / pi_old = 1.5, 0.5 | 0; the policy is another by now, which doesn't matter.
    given = batch(
        said(0.9, 0.9, 0.9),
        old_logprobs=said(0.5, 0.5, 0.5),
        teacher_logprobs=said(0.75, 0.25, 0),
        is_last=places(0, 1, 1),
    )
    assert of(TopD(share=0.8), given) == (
        pytest.approx([LN(1.4) + LN(0.6), LN(0.6), LN(0.2)]),
        [True, True, True],
    )


def test_old_tokens_have_a_reward_and_are_no_part_of_the_group() -> None:
    given = batch(
        said(0.5, 0.5, 0.5),
        teacher_logprobs=said(0.75, 0.25, 0.75),
        is_last=places(0, 0, 1),
        weights=tokens(0.5, 0, 0.5),
    )
    # 1.4, 0.6 and 1.4 are the mixture's ratios.
    first = LN(1.4) + (LN(0.6) + LN(1.4)) / 2
    assert of(TopD(share=0.8), given) == (
        pytest.approx([first, LN(0.6) + LN(1.4), LN(1.4)]),
        [True, False, True],
    )


@pytest.mark.parametrize("teacher_says", [0.25, 0.0])
def test_a_masked_end_reaches_no_return(teacher_says: float) -> None:
    given = batch(
        said(0.5, 0.5),
        teacher_logprobs=said(0.75, teacher_says),
        is_last=places(0, 1),
        is_end=places(0, 1),
    )
    values, counts = of(TopD(share=0.8, mask_end_token=True), given)
    assert (values[0], counts) == (pytest.approx(LN(1.4)), [True, False])


def test_all_end_tokens_are_one_outcome() -> None:
    # Together they have 1/4 and 3/8; of the sampled one alone the teacher says nothing.
    given = batch(
        said(0.5, 1 / 8),
        teacher_logprobs=said(0.25, 0),
        teacher_end_logprobs=said(0.5, 3 / 8),
        policy_end_logprobs=said(0.5, 1 / 4),
        old_end_logprobs=said(0.5, 1 / 4),
        is_last=places(0, 1),
        is_end=places(0, 1),
    )
    assert of(TopD(share=0.8), given)[0] == pytest.approx([LN(0.6) + LN(1.4), LN(1.4)])


def test_the_loss_is_the_surrogate_with_what_became_of_the_returns() -> None:
    # Ratios 1.2 and 0.5 with A = 2 and -3; the third token's teacher does not count.
    given = batch(
        said(0.6, 0.25, 0.5),
        old_logprobs=said(0.5, 0.5, 0.5),
        teacher_logprobs=said(0.75, 0.25, 0.25),
        token_advantages=tokens(2, -3, 7),
        is_end=places(0, 0, 1),
    )
    objective = TopD(share=0.8, mask_end_token=True)
    output = objective(given, 0)
    # The second is clipped at 0.8.
    assert output.loss.item() == pytest.approx(-1.2 * 2 + 0.8 * 3)
    assert gradient(objective, given) == pytest.approx([-2.4, 0, 0])
    told = {name: output.statistics[name].mean for name in ("token_advantage", "token_reward")}
    assert told == pytest.approx({"token_advantage": -0.5, "token_reward": (LN(1.4) + LN(0.6)) / 2})


def test_what_is_lacking_is_named() -> None:
    given = batch(said(0.5), teacher_logprobs=said(0.5))
    with pytest.raises(ValueError, match=r"top_d needs TokenBatch\.token_advantages, which is None"):
        TopD()(given, 0)
    with pytest.raises(ValueError, match=r"top_d needs the ends of the responses"):
        TopD().token_returns(given, 0)
    with pytest.raises(ValueError, match="top_d needs the teacher's log-probs"):
        TopD().token_returns(batch(said(0.5), is_last=places(1)), 0)


def test_a_batch_without_tokens_has_returns_of_none() -> None:
    told = TopD().token_returns(batch(tokens(), teacher_logprobs=tokens(), is_last=places()), 0)
    assert isinstance(told, TokenReturns)
    assert told.values.numel() == told.counts.numel() == 0


def test_its_own_settings_are_the_papers() -> None:
    objective = TopD()
    assert (objective.aggregation, objective.share) == ("group_mean", 0.2)
    assert objective.needs_whole_groups
    assert not objective.uses_group_advantage
