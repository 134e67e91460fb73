"""Every objective against values worked out by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from token_batches import batch, gradient, tokens

from rlad_core.objectives import Objective, Statistic, TokenBatch
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.kdrl import KDRL
from rlad_core.objectives.opd import OPD
from rlad_core.objectives.sft import SFT
from rlad_core.objectives.trrd import TRRD

LN = math.log


def test_grpo_clips_each_side_only_where_the_advantage_says_so() -> None:
    # rho = 1.5, 0.5, 0.5, 1.5 with A = 1, -1, 1, -2: clipped to 1.28, clipped to 0.8, kept, kept.
    given = batch(
        tokens(1.5, 0.5, 0.5, 1.5).log() - 3,
        old_logprobs=tokens(-3, -3, -3, -3),
        advantages=tokens(1, -1, 1, -2),
        # Two responses of 1 and 3 tokens, sequence_mean.
        weights=tokens(1 / 2, 1 / 6, 1 / 6, 1 / 6),
    )
    output = GRPO()(given, 0)
    assert output.loss.item() == pytest.approx(-1.28 / 2 + (0.8 - 0.5 + 3.0) / 6)
    assert gradient(GRPO(), given) == pytest.approx([0, 0, -0.5 / 6, 3.0 / 6])
    assert output.statistics["clip_fraction_low"].mean == 0.25
    assert output.statistics["clip_fraction_high"].mean == 0.25
    assert output.statistics["ratio"].mean == pytest.approx(1.0)


def test_a_ratio_cap_bounds_the_loss_of_bad_tokens_alone() -> None:
    # rho = 4, 2, 4 with A = -1, -1, 1 under a cap of 3: held at 3, kept, clipped to 1.28 as without it.
    given = batch(
        tokens(4, 2, 4).log() - 3,
        old_logprobs=tokens(-3, -3, -3),
        advantages=tokens(-1, -1, 1),
        weights=tokens(1, 1, 1),
    )
    output = GRPO(ratio_cap=3.0)(given, 0)
    assert output.loss.item() == pytest.approx(3 + 2 - 1.28)
    assert gradient(GRPO(ratio_cap=3.0), given) == pytest.approx([0, 2, 0])
    assert gradient(GRPO(), given) == pytest.approx([4, 2, 0])
    assert output.statistics["ratio_capped_share"].mean == pytest.approx(1 / 3)
    assert output.statistics["ratio"].mean == pytest.approx(10 / 3)
    assert "ratio_capped_share" not in GRPO()(given, 0).statistics


def test_trrd_mixes_both_ratios_geometrically() -> None:
    # pi = 0.5, pi_old = 0.4, pi_T = 0.8: rho = sqrt(0.5/0.4 * 0.5/0.8) = sqrt(0.78125).
    given = batch(tokens(LN(0.5)), old_logprobs=tokens(LN(0.4)), teacher_logprobs=tokens(LN(0.8)))
    output = TRRD()(given, 0)
    assert output.loss.item() == pytest.approx(-math.sqrt(0.78125))
    assert gradient(TRRD(), given) == pytest.approx([-math.sqrt(0.78125)])
    assert output.statistics["teacher_log_ratio"].mean == pytest.approx(LN(0.5 / 0.8))
    assert output.statistics["teacher_log_ratio_clamped_share"].mean == 0


def test_trrd_saturated_clamp_scales_the_gradient_by_alpha() -> None:
    # pi / pi_T = 10 is clamped to e; rho = 1.25^0.3 * e^0.7, A < 0 keeps it unclipped.
    given = batch(
        tokens(LN(0.5)),
        old_logprobs=tokens(LN(0.4)),
        teacher_logprobs=tokens(LN(0.05)),
        advantages=tokens(-2),
    )
    ratio = 1.25**0.3 * math.exp(0.7)
    output = TRRD(alpha=0.3)(given, 0)
    assert output.loss.item() == pytest.approx(2 * ratio)
    assert gradient(TRRD(alpha=0.3), given) == pytest.approx([0.3 * 2 * ratio])
    assert output.statistics["teacher_log_ratio"].mean == 1
    assert output.statistics["teacher_log_ratio_clamped_share"].mean == 1
    assert output.statistics["kl_to_teacher"].mean == pytest.approx(LN(10))
    free = 1.25**0.3 * 10**0.7
    assert gradient(TRRD(alpha=0.3, teacher_clamp=None), given) == pytest.approx([2 * free])


def test_kdrl_adds_half_the_squared_difference() -> None:
    # d = -3 - (-1) = -2, k2 = 2; rho = 1, A = 0.5.
    given = batch(tokens(-1), teacher_logprobs=tokens(-3), advantages=tokens(0.5))
    output = KDRL(beta=0.1)(given, 0)
    assert output.loss.item() == pytest.approx(-0.5 + 0.1 * 2)
    assert gradient(KDRL(beta=0.1), given) == pytest.approx([-0.5 + 0.1 * 2])
    assert output.statistics["distillation_loss"].mean == pytest.approx(2)
    assert output.statistics["kl_to_teacher"].mean == pytest.approx(2)


def test_kdrl_gradient_pulls_towards_the_teacher() -> None:
    # With k1 differentiated, the two would be equal and the teacher would have dropped out.
    policy, silent = tokens(-1), torch.zeros(1, dtype=torch.float64)
    above, below = (
        gradient(KDRL(beta=1), batch(policy.clone(), teacher_logprobs=tokens(value), advantages=silent))
        for value in (-0.5, -3.0)
    )
    assert above == pytest.approx([-0.5])
    assert below == pytest.approx([2.0])


def test_kdrl_beta_anneals_to_its_end() -> None:
    objective = KDRL(beta=5e-3, beta_decay=5e-5, beta_end=1e-3)
    assert [objective.beta_at(step) for step in (0, 40, 80, 500)] == pytest.approx([5e-3, 3e-3, 1e-3, 1e-3])
    assert KDRL(beta=2e-3).beta_at(500) == 2e-3
    given = batch(tokens(-1), teacher_logprobs=tokens(-3))
    assert objective(given, 40).loss.item() == pytest.approx(-1 + 3e-3 * 2)
    assert objective(given, 40).statistics["distillation_beta"].mean == pytest.approx(3e-3)


@pytest.mark.parametrize(("mask", "distilled"), [("none", 4), ("wrong_responses", 3), ("failed_groups", 2)])
def test_kdrl_masks(mask: Any, distilled: int) -> None:
    given = batch(
        tokens(-1, -1, -1, -1),
        teacher_logprobs=tokens(-3, -3, -3, -3),
        is_correct=torch.tensor([True, False, False, False]),
        group_has_correct=torch.tensor([True, True, False, False]),
    )
    output = KDRL(beta=0.1, mask=mask)(given, 0)
    assert output.loss.item() == pytest.approx(-4 + 0.1 * 2 * distilled)
    assert output.statistics["distillation_share"].mean == distilled / 4
    assert output.statistics["distillation_loss"].mean == pytest.approx(2)


def test_opd_reads_its_advantage_off_the_teacher() -> None:
    # rho = 1.1 and A = -0.25 - (-1) = 0.75, then A = -2.5 with rho = 1.
    given = batch(
        tokens(-1 + LN(1.1), -1),
        old_logprobs=tokens(-1, -1),
        teacher_logprobs=tokens(-0.25, -3.5),
        advantages=tokens(100, 100),
    )
    assert OPD()(given, 0).loss.item() == pytest.approx(-1.1 * 0.75 + 2.5)
    clamped = OPD(teacher_clamp=2.0)(given, 0)
    assert clamped.loss.item() == pytest.approx(-1.1 * 0.75 + 2.0)
    assert clamped.statistics["teacher_log_ratio"].mean == pytest.approx((-0.75 + 2.0) / 2)
    assert clamped.statistics["teacher_log_ratio_clamped_share"].mean == 0.5


def test_sft_is_the_weighted_negative_log_likelihood() -> None:
    given = batch(tokens(-1, -3), weights=tokens(0.25, 0.5), entropy=tokens(0.5, 1.5))
    output = SFT()(given, 0)
    assert output.loss.item() == pytest.approx(0.25 + 1.5)
    assert gradient(SFT(), given) == pytest.approx([-0.25, -0.5])
    assert output.statistics["nll"].mean == 2
    assert output.statistics["entropy"].mean == 1


def test_mismatch_weight_is_truncated_and_multiplies_the_whole_token_loss() -> None:
    # pi_old / pi_rollout = 1.5, 3 (capped at 2), 0.5, 1.05, 1; token loss -1 + 0.1 * 2 each.
    ratios = tokens(1.5, 3, 0.5, 1.05, 1)
    policy = tokens(-1, -1, -1, -1, -1)
    given = batch(policy, rollout_logprobs=policy - ratios.log(), teacher_logprobs=policy - 2)
    output = KDRL(beta=0.1)(given, 0)
    assert output.loss.item() == pytest.approx(-0.8 * (1.5 + 2 + 0.5 + 1.05 + 1))
    statistics = output.statistics
    assert statistics["importance_weight"].mean == pytest.approx((1.5 + 2 + 0.5 + 1.05 + 1) / 5)
    assert statistics["importance_weight_capped_share"].mean == 0.2
    assert statistics["mismatch_outside_share"].mean == 0.6
    assert statistics["mismatch"].mean == pytest.approx((LN(1.5) + LN(3) + LN(2) + LN(1.05)) / 5)
    off = KDRL(beta=0.1, mismatch_cap=None)(given, 0)
    assert off.loss.item() == pytest.approx(-0.8 * 5)
    assert "importance_weight" not in off.statistics


@pytest.mark.parametrize("make", [TRRD, KDRL, OPD, lambda **k: TRRD(teacher_clamp=None, **k)])
def test_masked_end_token_is_out_of_the_teachers_reach(make: Callable[..., Objective]) -> None:
    objective = make(mask_end_token=True)

    def at_the_end(teacher_says: float) -> TokenBatch:
        return batch(
            tokens(-1, -2, -0.5, -0.1),
            old_logprobs=tokens(-1.1, -1.9, -0.5, -0.2),
            teacher_logprobs=tokens(-1.2, teacher_says, -0.3, teacher_says),
            is_end=torch.tensor([False, True, False, True]),
        )

    sane, wild = at_the_end(-1.0), at_the_end(-math.inf)
    assert objective(sane, 0).loss.item() == objective(wild, 0).loss.item()
    assert gradient(objective, sane) == gradient(objective, wild)
    assert objective(wild, 0).statistics["kl_to_teacher"].mean == pytest.approx((0.2 - 0.2) / 2, abs=1e-12)
    unmasked = make()
    assert unmasked(sane, 0).loss.item() != unmasked(at_the_end(-3.0), 0).loss.item()


def test_masked_end_token_is_grpo_under_trrd() -> None:
    given = batch(
        tokens(-1), old_logprobs=tokens(-1.1), teacher_logprobs=tokens(-9), is_end=torch.tensor([True])
    )
    assert gradient(TRRD(mask_end_token=True), given) == gradient(GRPO(), given)


def test_overflowing_ratio_of_a_clipped_token_leaves_no_nan() -> None:
    given = batch(tokens(-1), old_logprobs=tokens(-2000), rollout_logprobs=tokens(-2000))
    assert GRPO()(given, 0).loss.item() == pytest.approx(-1.28)
    assert gradient(GRPO(), given) == [0]


def test_a_token_without_an_advantage_leaves_no_nan_whatever_the_teacher_says() -> None:
    given = batch(tokens(-0.1), teacher_logprobs=tokens(-2000), advantages=tokens(0))
    unclamped = TRRD(teacher_clamp=None)
    assert unclamped(given, 0).loss.item() == 0
    assert gradient(unclamped, given) == [0]


def test_missing_inputs_are_named() -> None:
    bare = batch(tokens(-1))
    with pytest.raises(ValueError, match=r"trrd needs the teacher's log-probs"):
        TRRD()(bare, 0)
    with pytest.raises(ValueError, match="opd needs the teacher's log-probs"):
        OPD()(bare, 0)
    scored = batch(tokens(-1), teacher_logprobs=tokens(-1))
    with pytest.raises(ValueError, match=r"needs TokenBatch\.is_end"):
        TRRD(mask_end_token=True)(scored, 0)
    with pytest.raises(ValueError, match=r"needs TokenBatch\.is_correct"):
        KDRL(mask="wrong_responses")(scored, 0)
    with pytest.raises(ValueError, match=r"needs TokenBatch\.group_has_correct"):
        KDRL(mask="failed_groups")(scored, 0)
    objectives: list[Objective] = [TRRD(), KDRL(), OPD(), TRRD(alpha=1), GRPO(), SFT()]
    assert [objective.needs_teacher for objective in objectives] == [True] * 3 + [False] * 3


def test_batches_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"advantages has shape \(2,\), but policy_logprobs has \(1,\)"):
        batch(tokens(-1), advantages=tokens(1, 2))
    policy = tokens(-1).requires_grad_()
    with pytest.raises(ValueError, match="old_logprobs carries a gradient"):
        batch(policy, old_logprobs=policy, rollout_logprobs=tokens(-1))
    with pytest.raises(ValueError, match="one value per response token"):
        batch(torch.zeros(1, 2))


@pytest.mark.parametrize("objective", [TRRD(), GRPO(), KDRL(), OPD(), SFT()])
def test_an_empty_micro_batch_adds_nothing(objective: Objective) -> None:
    # A rank with fewer micro-batches than the others still has to take part in the collectives.
    given = batch(tokens(), teacher_logprobs=tokens())
    output = objective(given, 0)
    assert output.loss.item() == 0
    assert gradient(objective, given) == []


def test_statistics_add_up_and_an_empty_mean_is_nan() -> None:
    one, two = Statistic.of(tokens(1, 2)), Statistic.of(tokens(6, 5), torch.tensor([True, False]))
    assert (one + two).mean == 3
    assert math.isnan(Statistic.of(tokens(1), torch.tensor([False])).mean)
