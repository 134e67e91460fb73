"""The methods that came after RLAD's own baselines, against values worked out by hand."""

import math

import pytest
import torch
from hypothesis import given as examples
from hypothesis import strategies as st
from token_batches import batch, gradient, tokens
from torch import Tensor

from rlad_core.objectives import KINDS, Objective, TokenBatch
from rlad_core.objectives.dapo import DAPO
from rlad_core.objectives.dr_grpo import DrGRPO
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.gspo import GSPO, mean_of_response
from rlad_core.objectives.opd import OPD
from rlad_core.objectives.opdvr import GRPD, OPDVR
from rlad_core.objectives.power_opd import PowerOPD
from rlad_core.objectives.rlsd import RLSD
from rlad_core.objectives.sdar import SDAR
from rlad_core.objectives.sg_opd import SGOPD
from rlad_core.objectives.teacher_advantage import TeacherAdvantage
from rlad_core.objectives.trrd import TRRD

LN = math.log


def advantages_of(objective: Objective, **columns: Tensor | None) -> list[float]:
    """A_t of tokens of which the student thought 1/2: on-policy, the gradient is minus the advantage."""
    policy = torch.full_like(columns["teacher_logprobs"], LN(0.5))  # type: ignore[arg-type]
    return [-each for each in gradient(objective, batch(policy, **columns))]


# The teacher says 3/4, 1/4, 3/4, 1/4 where the student said 1/2: d = ln 1.5, ln 0.5, ln 1.5, ln 0.5.
TEACHER = tokens(LN(0.75), LN(0.25), LN(0.75), LN(0.25))
RIGHT = torch.tensor([True, True, False, False])


def test_opdvr_takes_only_what_the_verdict_confirms() -> None:
    assert advantages_of(OPDVR(), teacher_logprobs=TEACHER, is_correct=RIGHT) == pytest.approx(
        [LN(1.5), 0, 0, LN(0.5)]
    )


def test_grpd_weighs_it_by_the_groups_advantage() -> None:
    found = advantages_of(GRPD(), teacher_logprobs=TEACHER, advantages=tokens(2, 2, -0.5, -0.5))
    assert found == pytest.approx([2 * LN(1.5), 0, 0, -0.5 * LN(2)])
    assert advantages_of(GRPD(), teacher_logprobs=TEACHER, advantages=tokens(0, 0, 0, 0)) == [0, 0, 0, 0]


def test_sg_opd_scales_by_agreement_with_the_verdict() -> None:
    objective = SGOPD(agree=0.25, disagree=0.75)
    found = advantages_of(objective, teacher_logprobs=TEACHER, is_correct=RIGHT)
    assert found == pytest.approx([1.25 * LN(1.5), 0.25 * LN(0.5), 0.25 * LN(1.5), 1.25 * LN(0.5)])
    neither = SGOPD(agree=0, disagree=0)
    assert advantages_of(neither, teacher_logprobs=TEACHER, is_correct=RIGHT) == pytest.approx(
        advantages_of(OPD(), teacher_logprobs=TEACHER)
    )


def test_power_opd_is_the_difference_of_powers() -> None:
    # a = 2: 9/16 - 1/4, 1/16 - 1/4, and 0 - 1/4 where the teacher excludes the token; a = 5: 243 - 32, 1 - 32
    # and 0 - 32 of 4^5 = 1024.
    teacher = tokens(LN(0.75), LN(0.25), -math.inf)
    found = advantages_of(PowerOPD(power=2), teacher_logprobs=teacher)
    assert found == pytest.approx([5 / 16, -3 / 16, -4 / 16])
    found = advantages_of(PowerOPD(), teacher_logprobs=teacher)
    assert found == pytest.approx([211 / 1024, -31 / 1024, -32 / 1024])


def test_power_opd_is_bounded_and_near_0_the_log_ratio() -> None:
    # The student hardly ever says it: log-ratio 2000, advantage 1. And the teacher hardly ever: -1.
    given = batch(tokens(-2000, 0), teacher_logprobs=tokens(0, -2000))
    assert gradient(PowerOPD(), given) == pytest.approx([-1, 1])
    small = 1e-8
    found = advantages_of(PowerOPD(power=small), teacher_logprobs=TEACHER)
    assert [each / small for each in found] == pytest.approx(advantages_of(OPD(), teacher_logprobs=TEACHER))


def test_power_opd_takes_both_probabilities_of_all_end_tokens() -> None:
    # Together they have 1/4 and 3/4; of the sampled one alone the student says 1/8 and the teacher nothing.
    given = batch(
        tokens(LN(1 / 8)),
        teacher_logprobs=tokens(-math.inf),
        teacher_end_logprobs=tokens(LN(3 / 4)),
        policy_end_logprobs=tokens(LN(1 / 4)),
        old_end_logprobs=tokens(LN(1 / 4)),
        is_end=torch.tensor([True]),
    )
    assert gradient(PowerOPD(power=2), given) == pytest.approx([-(9 - 1) / 16])


def test_rlsd_lets_the_teacher_say_how_much() -> None:
    # exp(sign(A) * d): 1.5 -> 1.2, 0.5 -> 0.8 for A = 2; 1/1.5 -> 0.8, 2 -> 1.2 for A = -1; l = 0.5.
    columns = {"teacher_logprobs": TEACHER, "advantages": tokens(2, 2, -1, -1)}
    assert advantages_of(RLSD(share=0.5), **columns) == pytest.approx([2.2, 1.8, -0.9, -1.1])
    assert advantages_of(RLSD(share=1, eps_credit=0.9), **columns) == pytest.approx([3, 1, -1 / 1.5, -1.9])
    assert RLSD(share=0, share_end=0.5, share_steps=9).needs_teacher
    last = torch.tensor([False, True, False, True])
    masked = advantages_of(RLSD(mask_end_token=True), is_end=last, **columns)
    assert masked == pytest.approx([2.2, 2, -0.9, -1])


@pytest.mark.parametrize("objective", [RLSD(share=0), TRRD(alpha=1)], ids=["rlsd", "trrd"])
def test_who_asks_no_teacher_is_grpo(objective: Objective) -> None:
    given = batch(tokens(LN(0.5), LN(0.25)), advantages=tokens(2, -1))
    assert given.teacher_logprobs is None
    assert not objective.needs_teacher
    assert gradient(objective, given) == gradient(GRPO(), given)
    assert objective(given, 0).loss.item() == GRPO()(given, 0).loss.item()


def test_rlsd_becomes_grpo_where_its_share_goes_to_0() -> None:
    # Factors 1.2 and 0.8 as above. After 25 of 50 steps half of l = 0.5 is left, from the 50th on nothing.
    objective = RLSD(share_end=0, share_steps=50)
    given = batch(tokens(LN(0.5), LN(0.5)), teacher_logprobs=TEACHER[:2], advantages=tokens(2, 2))
    assert [objective(given, step).loss.item() for step in (0, 25, 50, 70)] == pytest.approx([-4] * 4)
    assert gradient(objective, given) == pytest.approx([-2.2, -1.8])
    assert gradient(objective, given, step=25) == pytest.approx([-2.1, -1.9])
    assert gradient(objective, given, step=50) == gradient(objective, given, step=70) == [-2, -2]
    assert not [*objective.problems()]
    assert [problem.path for problem in RLSD(share_end=0.1).problems()] == ["share_steps"]


def test_sdar_opens_its_gate_where_the_teacher_says_more() -> None:
    # d = ln 2: sigmoid(1 * ln 2) = 2/3; d = -ln 2: 1/3. The gate has no gradient.
    given = batch(tokens(LN(0.25), LN(0.5)), teacher_logprobs=tokens(LN(0.5), LN(0.25)))
    objective = SDAR(coefficient=0.3, sharpness=1)
    output = objective(given, 0)
    assert output.loss.item() == pytest.approx(-2 + 0.3 * (2 / 3 * LN(2) - 1 / 3 * LN(2)))
    assert gradient(objective, given) == pytest.approx([-1 - 0.2, -1 - 0.1])
    assert output.statistics["distillation_gate"].mean == pytest.approx(0.5)


def test_gspo_gives_a_response_one_ratio_and_each_token_its_gradient() -> None:
    # Two responses of 2 and 1 tokens: log ratios (0.2, -0.1) -> 0.05, and (0.3) -> 0.3.
    columns = {
        "old_logprobs": tokens(-1, -1, -1),
        "is_last": torch.tensor([False, True, True]),
        "advantages": tokens(1, 1, -2),
    }
    given = batch(tokens(-0.8, -1.1, -0.7), **columns)
    objective = GSPO(eps_low=0.2, eps_high=0.2)
    ratio, other = math.exp(0.05), math.exp(0.3)
    assert objective(given, 0).loss.item() == pytest.approx(-2 * ratio + 2 * other)
    assert gradient(objective, given) == pytest.approx([-ratio, -ratio, 2 * other])
    # exp(0.05) is over 1 + 4e-4, so the first response is out as a whole; the second has A < 0 and stays.
    assert gradient(GSPO(), given) == pytest.approx([0, 0, 2 * other])
    with pytest.raises(ValueError, match=r"gspo needs .*TokenBatch\.is_last"):
        objective(batch(tokens(-1)), 0)


def test_of_gspos_ratio_tokens_that_do_not_count_are_no_part() -> None:
    # Of 4 tokens the first two are too old: log ratios (9, 9, 0.2, -0.1) -> 0.05. Of the last response none
    # counts.
    given = batch(
        tokens(8, 8, -0.8, -1.1, 8),
        old_logprobs=tokens(-1, -1, -1, -1, -1),
        is_last=torch.tensor([False, False, False, True, True]),
        weights=tokens(0, 0, 0.5, 0.5, 0),
    )
    objective = GSPO(eps_low=0.2, eps_high=0.2)
    ratio = math.exp(0.05)
    output = objective(given, 0)
    assert output.loss.item() == pytest.approx(-ratio)
    assert output.statistics["ratio"].mean == pytest.approx(ratio)
    assert output.statistics["clip_fraction_high"].mean == 0
    assert gradient(objective, given) == pytest.approx([0, 0, -ratio / 2, -ratio / 2, 0])


@examples(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 2**31))
def test_the_mean_of_a_response_is_its_own(lengths: list[int], seed: int) -> None:
    values = torch.randn(sum(lengths), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    last = torch.zeros(sum(lengths), dtype=torch.bool)
    last[torch.tensor(lengths).cumsum(0) - 1] = True
    expected = torch.cat([part.mean().expand(part.numel()) for part in values.split(lengths)])
    everything = torch.ones_like(last)
    torch.testing.assert_close(mean_of_response(values, last, everything), expected)


def test_dapo_and_dr_grpo_are_grpo_with_other_sums() -> None:
    assert DAPO().aggregation == "token_mean"
    assert DrGRPO(fixed_length=100).token_weights([1, 3]).tolist() == [1 / 200, 1 / 200]
    assert [problem.path for problem in DrGRPO().problems()] == ["fixed_length"]
    assert not DrGRPO(fixed_length=1).scales_advantage
    assert GRPO().scales_advantage
    given = batch(tokens(-1, -2), old_logprobs=tokens(-1.5, -1.5), advantages=tokens(1, -1))
    assert gradient(DAPO(), given) == gradient(DrGRPO(fixed_length=1), given) == gradient(GRPO(), given)


# Where returns are normalised the teacher reaches them before: test_objectives_top_d.py.
FAMILY = sorted(
    kind for kind, each in KINDS.items() if issubclass(each, TeacherAdvantage) and not each.normalises_returns
)


@pytest.mark.parametrize("kind", [*FAMILY, "sdar"])
def test_what_stands_on_a_masked_token_reaches_nothing(kind: str) -> None:
    def at_the_end(teacher_says: float) -> TokenBatch:
        return batch(
            tokens(-1, -2, -0.5, -0.1),
            old_logprobs=tokens(-1.1, -1.9, -0.5, -0.2),
            teacher_logprobs=tokens(-1.2, teacher_says, -0.3, teacher_says),
            reference_logprobs=tokens(-1.0, -1.5, -0.4, -0.3),
            is_end=torch.tensor([False, True, False, True]),
            is_correct=RIGHT,
        )

    objective = KINDS[kind](mask_end_token=True)
    assert gradient(objective, at_the_end(-1.0)) == gradient(objective, at_the_end(-math.inf))
    assert gradient(KINDS[kind](), at_the_end(-1.0)) != gradient(KINDS[kind](), at_the_end(-3.0))


@pytest.mark.parametrize("kind", sorted(KINDS.keys()))
def test_an_empty_micro_batch_adds_nothing(kind: str) -> None:
    none = torch.zeros(0, dtype=torch.bool)
    policy = tokens().requires_grad_()
    likely = {"top_logprobs": torch.zeros(0, 1), "policy_top_logprobs": policy[:, None]}
    likely["policy_rest_logprobs"] = policy
    said = {"teacher_logprobs": tokens(), "reference_logprobs": tokens()}
    said["token_advantages"] = tokens()
    given = batch(policy, is_last=none, is_end=none, is_correct=none, **said, **likely)
    objective = KINDS[kind](fixed_length=1) if kind == "dr_grpo" else KINDS[kind]()
    assert objective(given, 0).loss.item() == 0
    assert gradient(objective, given) == []


def test_missing_verdicts_are_named() -> None:
    for objective in (OPDVR(), SGOPD()):
        with pytest.raises(ValueError, match=r"needs the verdicts, but TokenBatch\.is_correct is None"):
            objective(batch(tokens(-1), teacher_logprobs=tokens(-1)), 0)
