"""All results are the same however the global batch is split over micro-batches and ranks."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.objectives import Objective, Statistic, TokenBatch
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.kdrl import KDRL
from rlad_core.objectives.opd import OPD
from rlad_core.objectives.sft import SFT
from rlad_core.objectives.trrd import TRRD

OBJECTIVES: list[Objective] = [
    TRRD(mask_end_token=True),
    TRRD(aggregation="token_mean"),
    GRPO(aggregation="fixed_length", fixed_length=50),
    KDRL(beta=0.1, mask="wrong_responses"),
    OPD(),
    SFT(),
    SFT(aggregation="sequence_mean"),
]
Result = tuple[float, dict[int, torch.Tensor], dict[str, Statistic]]


def responses(lengths: list[int], seed: int) -> list[dict[str, Any]]:
    """Columns of each response."""
    rng = np.random.default_rng(seed)
    result: list[dict[str, Any]] = []
    for length in lengths:
        old = torch.from_numpy(-rng.exponential(1.0, length))
        result.append(
            {
                "policy_logprobs": old + torch.from_numpy(rng.normal(0, 0.3, length)),
                "old_logprobs": old,
                "rollout_logprobs": old + torch.from_numpy(rng.normal(0, 0.3, length)),
                "advantages": torch.full((length,), rng.normal(), dtype=torch.float64),
                "teacher_logprobs": old + torch.from_numpy(rng.normal(0, 1, length)),
                "is_end": torch.arange(length) == length - 1,
                "is_correct": torch.full((length,), bool(rng.random() < 0.5)),
                "entropy": torch.from_numpy(rng.exponential(1.0, length)),
            }
        )
    return result


def evaluate(objective: Objective, batch: list[dict[str, Any]], split: list[list[int]]) -> Result:
    """Sum over the parts of ``split``, each a list of response numbers."""
    weights = objective.token_weights(
        [len(columns["old_logprobs"]) for columns in batch], [i // 2 for i in range(len(batch))]
    )
    loss, gradients, statistics = 0.0, {}, {}
    for part in split:
        policy = {i: batch[i]["policy_logprobs"].clone().requires_grad_() for i in part}
        rows = [
            batch[i]
            | {"policy_logprobs": policy[i], "weights": torch.full_like(policy[i].detach(), weights[i])}
            for i in part
        ]
        output = objective(
            TokenBatch(**{name: torch.cat([row[name] for row in rows]) for name in rows[0]}), 3
        )
        output.loss.backward()
        loss += output.loss.item()
        gradients |= {i: tensor.grad for i, tensor in policy.items()}
        for name, statistic in output.statistics.items():
            statistics[name] = statistics[name] + statistic if name in statistics else statistic
    return loss, gradients, statistics


@pytest.mark.parametrize(
    "objective", OBJECTIVES, ids=lambda objective: f"{type(objective).__name__}-{objective.aggregation}"
)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_split_gives_the_same(objective: Objective, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=8), label="lengths")
    batch = responses(lengths, data.draw(st.integers(0, 2**16), label="seed"))
    order = data.draw(st.permutations(range(len(lengths))), label="order")
    places = data.draw(
        st.lists(st.integers(0, 3), min_size=len(lengths), max_size=len(lengths)), label="places"
    )
    split = [[i for i, place in zip(order, places, strict=True) if place == part] for part in range(4)]

    loss, gradients, statistics = evaluate(objective, batch, [part for part in split if part])
    whole_loss, whole_gradients, whole_statistics = evaluate(objective, batch, [list(range(len(lengths)))])
    assert loss == pytest.approx(whole_loss, rel=1e-12, abs=1e-12)
    assert gradients.keys() == whole_gradients.keys()
    for i, gradient in gradients.items():
        torch.testing.assert_close(gradient, whole_gradients[i], rtol=0, atol=0)
    assert statistics.keys() == whole_statistics.keys()
    for name, statistic in statistics.items():
        assert statistic.mean == pytest.approx(
            whole_statistics[name].mean, rel=1e-9, abs=1e-12, nan_ok=True
        ), name


def test_the_paper_means_over_responses_of_their_token_means() -> None:
    # Not the mean over tokens: the short response counts as much as the long one.
    batch = responses([2, 10], seed=0)
    per_response = [-columns["policy_logprobs"].mean().item() for columns in batch]
    loss, _, _ = evaluate(SFT(aggregation="sequence_mean"), batch, [[0], [1]])
    assert loss == pytest.approx(np.mean(per_response))
