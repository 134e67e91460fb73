"""Where TRRD's trust region lies: the three regimes of the paper's section 4.1, and its start.

With alpha = 0.5 and the clamp not saturated, log rho = x + (1 - alpha) * gap, where x = log(pi_theta /
pi_old) and gap = log(pi_old / pi_T). So the policy may move up (A > 0) until x = log 1.28 - gap / 2, and
down (A < 0) until x = log 0.8 - gap / 2. A confident teacher (gap < 0) leaves more room upwards and less
downwards, a doubting one (gap > 0) the reverse, and one that agrees leaves GRPO's.
"""

import math

import pytest
import torch

from rlad_core.objectives import Objective, TokenBatch
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.trrd import TRRD

OLD = -2.0
UP, DOWN = math.log(1.28), math.log(0.8)


def gradients(objective: Objective, moves: torch.Tensor, gap: float, advantage: float) -> torch.Tensor:
    """Gradient of each of many policies, moved away from the old one by ``moves`` in log-prob."""
    constant = torch.full_like(moves, OLD)
    batch = TokenBatch(
        policy_logprobs=(constant + moves).requires_grad_(),
        old_logprobs=constant,
        rollout_logprobs=constant,
        advantages=torch.full_like(moves, advantage),
        weights=torch.ones_like(moves),
        teacher_logprobs=constant - gap,
    )
    (result,) = torch.autograd.grad(objective(batch, 0).loss, batch.policy_logprobs)
    return result


def reach(objective: Objective, gap: float, advantage: float) -> float:
    """log(pi_theta / pi_old) up to which the policy is moved in the advantage's direction."""
    direction = math.copysign(1.0, advantage)
    moves = direction * torch.linspace(-0.7, 0.7, 14_001, dtype=torch.float64)
    alive = gradients(objective, moves, gap, advantage) != 0
    assert alive[0]
    assert not alive[-1]
    assert not (alive[1:] & ~alive[:-1]).any(), "once clipped it stays clipped"
    return float(moves[alive][-1])


@pytest.mark.parametrize("gap", [-0.2, 0.0, 0.2])
def test_how_far_the_policy_may_move(gap: float) -> None:
    assert reach(TRRD(), gap, 1.0) == pytest.approx(UP - gap / 2, abs=2e-4)
    assert reach(TRRD(), gap, -1.0) == pytest.approx(DOWN - gap / 2, abs=2e-4)


def test_confident_teacher_clips_later_upwards_and_earlier_downwards() -> None:
    assert reach(TRRD(), -0.2, 1.0) > reach(GRPO(), -0.2, 1.0)
    assert abs(reach(TRRD(), -0.2, -1.0)) < abs(reach(GRPO(), -0.2, -1.0))


def test_doubting_teacher_clips_earlier_upwards_and_later_downwards() -> None:
    assert reach(TRRD(), 0.2, 1.0) < reach(GRPO(), 0.2, 1.0)
    assert abs(reach(TRRD(), 0.2, -1.0)) > abs(reach(GRPO(), 0.2, -1.0))


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_agreeing_teacher_is_grpo(advantage: float) -> None:
    assert reach(TRRD(), 0.0, advantage) == reach(GRPO(), 0.0, advantage)
    moves = torch.linspace(-0.7, 0.7, 101, dtype=torch.float64)
    torch.testing.assert_close(
        gradients(TRRD(), moves, 0.0, advantage), gradients(GRPO(), moves, 0.0, advantage)
    )


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_smaller_alpha_gives_the_teacher_more_say(advantage: float) -> None:
    shifts = [
        abs(reach(TRRD(alpha=alpha), 0.2, advantage) - reach(GRPO(), 0.2, advantage))
        for alpha in (0.9, 0.5, 0.1)
    ]
    assert shifts == pytest.approx([0.02, 0.1, 0.18], abs=3e-4)


@pytest.mark.parametrize(
    ("gap", "advantage", "clipped"),
    [
        (0.493, 1.0, None), (0.495, 1.0, "high"), (5.0, 1.0, "high"), (-5.0, 1.0, None),
        (-0.446, -1.0, None), (-0.447, -1.0, "low"), (-5.0, -1.0, "low"), (5.0, -1.0, None),
    ],
)  # fmt: skip
def test_first_update_starts_partly_clipped(gap: float, advantage: float, clipped: str | None) -> None:
    """At pi_theta = pi_old tokens are outside 0.8..1.28 beyond a gap of +0.494 (A > 0), -0.446 (A < 0)."""
    zero = torch.zeros(1, dtype=torch.float64)
    assert bool(gradients(TRRD(), zero, gap, advantage) == 0) == (clipped is not None)
    batch = TokenBatch(
        policy_logprobs=zero + OLD,
        old_logprobs=zero + OLD,
        rollout_logprobs=zero + OLD,
        advantages=zero + advantage,
        weights=zero + 1,
        teacher_logprobs=zero + OLD - gap,
    )
    statistics = TRRD()(batch, 0).statistics
    assert {side: statistics[f"clip_fraction_{side}"].mean for side in ("low", "high")} == {
        side: float(side == clipped) for side in ("low", "high")
    }
    # The clamp bounds the start between e^-0.5 and e^0.5.
    assert math.exp(-0.5) <= statistics["ratio"].mean <= math.exp(0.5)
