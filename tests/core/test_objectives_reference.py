"""Every objective against a float64 reference written another way, and its gradient against differences."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from rlad_core.objectives import Objective, TokenBatch
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.kdrl import KDRL
from rlad_core.objectives.opd import OPD
from rlad_core.objectives.sft import SFT
from rlad_core.objectives.trrd import TRRD

Columns = dict[str, npt.NDArray[Any]]
TOKENS = 60


def random_columns(seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    old = -rng.exponential(1.0, TOKENS) - 0.05
    last = rng.random(TOKENS) < 0.1
    return {
        "policy_logprobs": old + rng.normal(0, 0.3, TOKENS),
        "old_logprobs": old,
        "rollout_logprobs": old + rng.normal(0, 0.5, TOKENS),
        "advantages": rng.normal(0, 1, TOKENS),
        "weights": rng.uniform(0.1, 1.0, TOKENS),
        "teacher_logprobs": old + rng.normal(0, 1.0, TOKENS),
        "is_end": last,
        "is_correct": rng.random(TOKENS) < 0.5,
        "group_has_correct": rng.random(TOKENS) < 0.5,
    }


def to_batch(columns: Columns, dtype: torch.dtype = torch.float64) -> TokenBatch:
    tensors = {
        name: torch.from_numpy(values) if values.dtype == bool else torch.from_numpy(values).to(dtype)
        for name, values in columns.items()
    }
    tensors["policy_logprobs"].requires_grad_()
    return TokenBatch(**tensors)


def surrogate(ratio: float, advantage: float, most: float, low: float = 0.8, high: float = 1.28) -> float:
    smaller = min(ratio * advantage, min(max(ratio, low), high) * advantage)
    return -(max(smaller, most * advantage) if advantage < 0 else smaller)


def reference(columns: Columns, method: str, settings: dict[str, Any], step: int) -> float:
    """Token by token on probabilities, as the equations are printed."""
    total = 0.0
    for t in range(len(columns["old_logprobs"])):
        row = {name: values[t] for name, values in columns.items()}
        pi, old, rollout, teacher = (
            math.exp(row[f"{whose}_logprobs"]) for whose in ("policy", "old", "rollout", "teacher")
        )
        advantage = row["advantages"]
        skips_teacher = settings.get("mask_end_token", False) and row["is_end"]
        if method == "sft":
            total += row["weights"] * -math.log(pi)
            continue
        ratio, extra = pi / old, 0.0
        if method == "trrd" and not skips_teacher:
            bound = settings.get("teacher_clamp", 1.0) or math.inf
            alpha = settings.get("alpha", 0.5)
            to_teacher = min(max(pi / teacher, math.exp(-bound)), math.exp(bound))
            ratio = (pi / old) ** alpha * to_teacher ** (1 - alpha)
        elif method == "opd":
            bound = settings.get("teacher_clamp") or math.inf
            advantage = 0.0 if skips_teacher else min(max(math.log(teacher / old), -bound), bound)
        elif method == "kdrl":
            beta = settings.get("beta", 2e-3)
            if settings.get("beta_end") is not None:
                beta = max(beta - settings["beta_decay"] * step, settings["beta_end"])
            left_out = {
                "none": False, "wrong_responses": row["is_correct"], "failed_groups": row["group_has_correct"]
            }[settings.get("mask", "none")]  # fmt: skip
            if not (left_out or skips_teacher):
                extra = beta * math.log(pi / teacher) ** 2 / 2
        cap = settings.get("mismatch_cap", 2.0)
        importance = 1.0 if cap is None else min(old / rollout, cap)
        total += (
            row["weights"]
            * importance
            * (surrogate(ratio, advantage, settings.get("ratio_cap", math.inf)) + extra)
        )
    return total


CASES: list[tuple[type, dict[str, Any]]] = [
    (GRPO, {}),
    (GRPO, {"mismatch_cap": None}),
    (TRRD, {}),
    (TRRD, {"alpha": 0.0}),
    (TRRD, {"alpha": 0.1, "teacher_clamp": None}),
    (TRRD, {"alpha": 0.1, "teacher_clamp": None, "ratio_cap": 1.5}),
    (TRRD, {"alpha": 0.9, "mask_end_token": True}),
    (KDRL, {"beta": 0.3}),
    (KDRL, {"beta": 0.3, "beta_decay": 0.02, "beta_end": 0.1, "mask": "wrong_responses"}),
    (KDRL, {"beta": 0.3, "mask": "failed_groups", "mask_end_token": True}),
    (OPD, {}),
    (OPD, {"teacher_clamp": 0.5, "mask_end_token": True}),
    (SFT, {}),
]
IDS = [f"{make.__name__}-{settings}" for make, settings in CASES]


@pytest.mark.parametrize(("make", "settings"), CASES, ids=IDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss(make: type, settings: dict[str, Any], seed: int) -> None:
    columns = random_columns(seed)
    objective: Objective = make(**settings)
    expected = reference(columns, make.__name__.lower(), settings, step=7)
    assert objective(to_batch(columns), 7).loss.item() == pytest.approx(expected, rel=1e-12)
    assert objective(to_batch(columns, torch.float32), 7).loss.item() == pytest.approx(
        expected, rel=1e-4, abs=1e-4
    )


@pytest.mark.parametrize(("make", "settings"), CASES, ids=IDS)
def test_gradient(make: type, settings: dict[str, Any]) -> None:
    columns = random_columns(3)
    objective: Objective = make(**settings)
    batch = to_batch(columns)
    (gradient,) = torch.autograd.grad(objective(batch, 7).loss, batch.policy_logprobs)

    width = 1e-6
    differences = np.empty(TOKENS)
    for t in range(TOKENS):
        ends = []
        for sign in (1, -1):
            moved = columns["policy_logprobs"].copy()
            moved[t] += sign * width
            ends.append(
                reference(columns | {"policy_logprobs": moved}, make.__name__.lower(), settings, step=7)
            )
        differences[t] = (ends[0] - ends[1]) / (2 * width)
    np.testing.assert_allclose(gradient.numpy(), differences, rtol=1e-5, atol=1e-7)
    if make is not SFT:
        assert np.count_nonzero(differences) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_teacher", [True, False])
def test_trrd_at_alpha_one_is_grpo_to_the_last_bit(dtype: torch.dtype, with_teacher: bool) -> None:
    for seed in range(20):
        columns = random_columns(seed)
        if not with_teacher:
            del columns["teacher_logprobs"]
        results = []
        for objective in (GRPO(), TRRD(alpha=1), TRRD(alpha=1.0, mask_end_token=True)):
            batch = to_batch(columns, dtype)
            loss = objective(batch, 0).loss
            (gradient,) = torch.autograd.grad(loss, batch.policy_logprobs)
            results.append((loss.detach().numpy().tobytes(), gradient.numpy().tobytes()))
        assert results[0] == results[1] == results[2]


def test_trrd_near_alpha_one_approaches_grpo() -> None:
    # The shortcut at alpha = 1 is the limit of the general formula, not another method.
    columns = random_columns(0)
    assert TRRD(alpha=1 - 1e-9)(to_batch(columns), 0).loss.item() == pytest.approx(
        GRPO()(to_batch(columns), 0).loss.item(), abs=1e-6
    )
