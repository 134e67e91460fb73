"""A token without a weight reaches neither loss nor gradient nor statistics, whatever stands on it.

In float32, where exp(99) is none: such tokens are those of older policies and of responses that were cut off.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlad_core.objectives import KINDS, ClippedSurrogate, Objective, TokenBatch
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.kdrl import KDRL
from rlad_core.objectives.trrd import TRRD

ESTIMATORS = ("k1", "k2", "k3")


def values(*each: float) -> Tensor:
    return torch.tensor(each, dtype=torch.float32)


def two_tokens(**second: float) -> TokenBatch:
    """Of two responses of one token; the second has no weight."""
    ordinary = {
        "policy": -1.0,
        "old": -1.2,
        "rollout": -1.1,
        "teacher": -0.7,
        "reference": -0.9,
        "told": -0.3,
    }

    def column(name: str) -> Tensor:
        return values(ordinary[name], second.get(name, ordinary[name]))

    policy = column("policy").requires_grad_()
    told = column("told")[:, None]
    return TokenBatch(
        policy_logprobs=policy,
        old_logprobs=column("old"),
        rollout_logprobs=column("rollout"),
        advantages=values(1.5, second.get("advantage", -0.5)),
        weights=values(0.5, 0.0),
        teacher_logprobs=column("teacher"),
        reference_logprobs=column("reference"),
        top_token_ids=torch.tensor([[3], [3]]),
        top_logprobs=told,
        policy_top_logprobs=policy[:, None],
        policy_rest_logprobs=policy,
        token_advantages=values(0.4, second.get("advantage", -0.5)),
        is_last=torch.tensor([True, True]),
        is_end=torch.tensor([False, False]),
        is_correct=torch.tensor([True, False]),
        group_has_correct=torch.tensor([False, False]),
    )


def found(objective: Objective, given: TokenBatch) -> tuple[float, list[float], dict[str, float]]:
    output = objective(given, 0)
    [gradient] = torch.autograd.grad(output.loss, given.policy_logprobs)
    told = {name: each.mean for name, each in output.statistics.items() if each.count}
    return output.loss.item(), gradient.tolist(), told


def made(kind: str, **settings: Any) -> Objective:
    lengths: dict[str, Any] = {"fixed_length": 4} if kind == "dr_grpo" else {}
    return KINDS[kind](kind=kind, **lengths, **settings)


OBJECTIVES = [
    *(made(kind) for kind in sorted(KINDS)),
    *(
        made(kind, reference_kl=0.1, reference_estimator=each)
        for kind in ("grpo", "trrd")
        for each in ESTIMATORS
    ),
    TRRD(anchor="normalised", top_k=1),
    GRPO(ratio_cap=3.0, mismatch_cap=None),
    KDRL(beta=0.1, mask="wrong_responses"),
]


@pytest.mark.parametrize(
    "objective", OBJECTIVES, ids=lambda each: f"{each.kind} {each.model_dump(exclude_defaults=True)}"
)
@pytest.mark.parametrize(
    "second",
    [
        {"policy": -100.0},
        {"policy": -100.0, "old": -100.0, "rollout": -100.0, "told": -100.0},
        {"old": -100.0},
        {"old": -100.0, "advantage": math.inf},
        {"rollout": -100.0},
        {"teacher": -math.inf, "told": -math.inf},
    ],
    ids=str,
)
def test_it_may_say_anything(objective: Objective, second: dict[str, float]) -> None:
    loss, gradient, told = found(objective, two_tokens(**second))
    usual_loss, usual_gradient, usual_told = found(objective, two_tokens())
    assert (loss, gradient) == (usual_loss, usual_gradient)
    assert told == usual_told
    assert gradient[1] == 0
    assert math.isfinite(loss)


@pytest.mark.parametrize("objective", [GRPO(), TRRD(teacher_clamp=None, alpha=0.0), GRPO(ratio_cap=3.0)])
def test_a_ratio_that_the_loss_bounds_leaves_the_mean_of_ratios_a_number(objective: ClippedSurrogate) -> None:
    one = values(-1.0)
    given = TokenBatch(
        policy_logprobs=one.clone().requires_grad_(),
        old_logprobs=values(-120.0),
        rollout_logprobs=values(-120.0),
        teacher_logprobs=values(-120.0),
        # With A > 0 it is clipped at 1.28, and with A < 0 capped.
        advantages=values(-1.0 if objective.ratio_cap else 1.0),
        weights=one.abs(),
    )
    loss, gradient, told = found(objective, given)
    assert loss == pytest.approx(3.0 if objective.ratio_cap else -1.28)
    assert gradient == [0]
    assert told["ratio"] == pytest.approx(math.exp(88), rel=1e-5)
