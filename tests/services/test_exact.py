"""A step is the same on any ranks, in any micro-batches, wherever weights and activations lie; to the bit."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from made_up_experience import experience, small_config
from ranks import join_ranks, start_ranks

from rlad_core.assembly import plan_shards
from rlad_core.sizing import pair_cost_of
from services.learner.optimizer_step import OptimizerStep
from services.learner.passes import Passes
from services.learner.statistics import over_ranks
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.run.initial_policy import write_initial_policy

pytestmark = pytest.mark.timeout(900)

LIMIT = 1e-5
"""Largest difference of a whole gradient or step, as a share of its length."""
Case = dict[str, Any]
PLAIN: Case = {"learner__grad_clip": None}
SMALL: Case = {**PLAIN, "learner__tokens_per_micro_batch": 64}
RECOMPUTED: Case = {**SMALL, "learner__activation_checkpointing": "full"}
SELECTIVE: Case = {**PLAIN, "learner__activation_checkpointing": "selective"}
SCATTERED: Case = {**SMALL, "learner__gradients": "scattered"}
LORA: Case = {**PLAIN, "learner__lora": {"rank": 4, "alpha": 8.0}, "sgd": True, "steps": 2}
GRADIENT: Case = {"sgd": True}
EPOCHS: Case = {**PLAIN, "learner__epochs_per_batch": 2, "learner__updates_per_batch": 2}
CASES: dict[str, Case] = {
    "gradient": PLAIN | GRADIENT,
    "gradient, small": SMALL | GRADIENT,
    "gradient, recomputed": RECOMPUTED | GRADIENT,
    "gradient, selective": SELECTIVE | GRADIENT,
    "gradient, scattered": SCATTERED | {"learner__activation_checkpointing": "full"} | GRADIENT,
    "gradient, copies": SCATTERED | {"learner__fsdp_size": 1} | GRADIENT,
    "gradient, offloaded": SCATTERED | {"learner__cpu_offload": True} | GRADIENT,
    "summed up in bfloat16": SCATTERED | {"learner__reduce_dtype": "bfloat16"} | GRADIENT,
    "step": PLAIN,
    "step again": PLAIN,
    "step, small": SMALL,
    "two epochs": EPOCHS,
    "two epochs again": EPOCHS,
}
TWO: Case = {**PLAIN, "steps": 2}
ADAPTERS: dict[str, Case] = {
    "adapters": LORA,
    "adapters, small": LORA | SMALL | {"learner__activation_checkpointing": "full"},
}
if find_spec("peft"):
    CASES |= ADAPTERS
ALONE: dict[str, Case] = {
    "in bfloat16": {**PLAIN, **GRADIENT, "policy__dtype": "bfloat16"},
    "two steps": TWO,
    "two steps, entropy in the first": {**TWO, "learner__entropy_every": 2},
    "two epochs, stopped": {**EPOCHS, "learner__max_kl": 1e-9},
    "two epochs, far enough": {**EPOCHS, "learner__max_kl": 1e9},
    "entropy": {
        **PLAIN,
        "learner__adaptive_entropy": {"target": 9.0, "delta": 0.5, "most": 0.75},
        "steps": 3,
    },
    "three steps": {**PLAIN, "steps": 3},
    "entropy, too high": {**PLAIN, "learner__adaptive_entropy": {"target": 1e-3, "start": 5e-3}, "steps": 2},
}
if find_spec("torchao"):
    ALONE["two steps, 8 bits"] = {**TWO, "learner__optimizer": "adamw_8bit"}


def _noting(model: torch.nn.Module, found: dict[str, Any]) -> Callable[..., None]:
    """Keeps gradients as an optimizer gets them."""

    def note(*_: Any) -> None:
        found["gradients in bfloat16"] = {
            name: parameter.grad.full_tensor().clone() for name, parameter in model.named_parameters()
        }

    return note


def rank_of(rank: int, ranks: int, folder: str, out: str, cases: dict[str, Case]) -> None:
    join_ranks(rank, ranks, out, f"meeting-{ranks}")
    torch.compiler.set_stance("force_eager")  # torchao's steps, which take minutes to compile
    table, groups = experience()
    found, told = {}, {}
    for name, case in cases.items():
        changes = {key: value for key, value in case.items() if key not in ("sgd", "steps")}
        config = small_config(Path(folder), learner__workers=ranks, **changes)
        policy = TrainedPolicy(config, folder, torch.device("cpu"))
        if case.get("sgd"):
            sgd = torch.optim.SGD(policy.module.parameters(), lr=1.0)
            budget, cpu = config.learner.tokens_per_micro_batch, torch.device("cpu")
            passes = Passes(policy.module, cpu, budget, pair_cost_of(folder))
            update = OptimizerStep(policy.module, sgd, passes, config, cpu)
            if name == "in bfloat16":
                sgd.register_step_pre_hook(_noting(policy.module.model, found))
        objective = config.stages[0].objective
        updates = config.learner.updates_per_batch
        plans = plan_shards(
            table, groups=groups, mini_batches=updates, ranks=ranks, token_weights=objective.token_weights
        )
        for step in range(case.get("steps", 1)):
            rows = TrainingRows(table.take(plans[rank].rows), plans[rank])
            if case.get("sgd"):
                told_of_rank = update.take(
                    rows,
                    0,
                    objective,
                    0,
                    entropy_weight=0.0,
                    with_entropy=True,
                    has_old=False,
                    keeps_old=False,
                )
                statistics = over_ranks(told_of_rank or {})
            else:
                statistics = policy.train_on(rows, objective, step)
        found[name] = {each: tensor.clone() for each, tensor in policy.whole_weights(torch.float32)}
        told[name] = {each: statistic.mean for each, statistic in statistics.items()}
        for tensor in found[name].values():  # also of another copy
            first = tensor.clone()
            dist.broadcast(first, 0)
            assert torch.equal(first, tensor), f"{name}: rank {rank} has other weights than rank 0"
    if rank == 0:
        torch.save(found, f"{out}/weights-{ranks}.pt")
        Path(out, f"told-{ranks}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


@pytest.fixture(scope="module")
def start(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


Found = tuple[dict[str, dict[str, torch.Tensor]], dict[str, dict[str, float]]]


@pytest.fixture(scope="module")
def on_ranks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Found]:
    """Weights after each case, and what it told, by number of ranks."""
    out = tmp_path_factory.mktemp("ranks")
    found = {}
    for ranks in (1, 2, 3):
        start_ranks(rank_of, ranks, str(folder), str(out), CASES | (ALONE if ranks == 1 else {}))
        told = json.loads((out / f"told-{ranks}.json").read_text())
        found[ranks] = (torch.load(out / f"weights-{ranks}.pt"), told)
    return found


def difference(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], start: dict[str, torch.Tensor]
) -> float:
    """Of two moves from the same weights, as a share of the first."""
    apart = sum(float((one[name] - other[name]).double().square().sum()) for name in one)
    whole = sum(float((one[name] - start[name]).double().square().sum()) for name in one)
    return (apart / whole) ** 0.5


@pytest.mark.parametrize("case", [name for name in CASES if name.startswith("gradient")])
def test_loss_and_gradient_are_the_same_on_any_ranks_in_any_passes(
    case: str, on_ranks: dict[int, Found], start: dict[str, torch.Tensor]
) -> None:
    expected, told = on_ranks[1][0]["gradient"], on_ranks[1][1]["gradient"]
    assert told["loss"] != 0
    for weights, numbers in on_ranks.values():
        assert difference(expected, weights[case], start) < LIMIT
        assert numbers[case]["loss"] == pytest.approx(told["loss"], rel=LIMIT, abs=1e-7)
        assert numbers[case]["gradient_norm"] == pytest.approx(told["gradient_norm"], rel=LIMIT)


@pytest.mark.parametrize("ranks", [2, 3])
def test_gradients_are_summed_up_in_the_precision_that_is_asked_for(
    ranks: int, on_ranks: dict[int, Found], start: dict[str, torch.Tensor]
) -> None:
    expected, weights = on_ranks[1][0]["gradient"], on_ranks[ranks][0]
    assert (
        LIMIT < difference(expected, weights["summed up in bfloat16"], start) < 2**-8
    )  # bfloat16's last digit


@pytest.mark.skipif(find_spec("peft") is None, reason="needs peft (the extra 'lora')")
def test_adapters_are_the_same_on_any_ranks_in_any_passes(
    on_ranks: dict[int, Found], start: dict[str, torch.Tensor]
) -> None:
    """Two steps: in the first only their second sides move, which are 0 at first."""
    expected, told = on_ranks[1][0]["adapters"], on_ranks[1][1]["adapters"]
    for weights, numbers in on_ranks.values():
        for case in ADAPTERS:
            assert difference(expected, weights[case], start) < LIMIT, case
            assert numbers[case]["loss"] == pytest.approx(told["loss"], rel=LIMIT, abs=1e-7)


@pytest.mark.parametrize("case", ["step", "step, small"])
def test_the_step_is_the_same_where_there_is_a_gradient(
    case: str, on_ranks: dict[int, Found], start: dict[str, torch.Tensor]
) -> None:
    """AdamW's first step is lr * g / (|g| + eps): where g is nothing but rounding, the step is its sign."""
    expected = on_ranks[1][0]["step"]
    gradient = {name: start[name] - tensor for name, tensor in on_ranks[1][0]["gradient"].items()}
    everything = torch.cat([each.flatten() for each in gradient.values()])
    least = 1e-3 * everything.square().mean().sqrt()
    assert float((everything.abs() > least).float().mean()) > 0.99

    def where(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor[gradient[name].abs() > least] for name, tensor in weights.items()}

    for weights, _ in on_ranks.values():
        assert difference(where(expected), where(weights[case]), where(start)) < LIMIT
        assert difference(expected, weights[case], start) < 1e-3
        apart = max(float((weights[case][name] - expected[name]).abs().max()) for name in expected)
        assert apart < 1e-2  # the learning rate: no weight goes the other way by more than it moves


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("case", ["step", "two epochs"])
def test_the_same_experience_and_seed_give_the_same_weights_to_the_bit(
    case: str, ranks: int, on_ranks: dict[int, Found]
) -> None:
    weights, told = on_ranks[ranks]
    for name, tensor in weights[case].items():
        assert torch.equal(tensor, weights[f"{case} again"][name]), name
    assert told[case] == told[f"{case} again"]


def test_epochs_go_through_the_batch_again_with_the_same_old_policy(on_ranks: dict[int, Found]) -> None:
    _, told = on_ranks[1]
    assert told["two epochs"]["updates"] == 4
    assert told["two epochs"]["kl_to_old"] > 0
    assert "updates" not in told["step"]


def test_a_policy_that_has_gone_far_enough_is_left_there(on_ranks: dict[int, Found]) -> None:
    weights, told = on_ranks[1]
    # The first update is at pi_old, so it is always made.
    assert told["two epochs, stopped"]["updates"] == 1
    assert told["two epochs, far enough"]["updates"] == 4
    for name, tensor in weights["two epochs"].items():
        assert torch.equal(tensor, weights["two epochs, far enough"][name]), name


def test_entropy_is_a_statistic_of_some_steps(on_ranks: dict[int, Found]) -> None:
    weights, told = on_ranks[1]
    assert told["two steps"]["entropy"] > 0
    assert "entropy" not in told["two steps, entropy in the first"]
    for name, tensor in weights["two steps"].items():
        torch.testing.assert_close(
            weights["two steps, entropy in the first"][name], tensor, atol=1e-6, rtol=0
        )


def test_the_heads_gradient_is_not_rounded(on_ranks: dict[int, Found]) -> None:
    """In one pass: a layer's gradient has the 8 bits of its products, the head's those of float32."""
    gradients = on_ranks[1][0]["gradients in bfloat16"]

    def rounded(part: str) -> float:
        tensor = next(tensor for name, tensor in gradients.items() if part in name)
        return float((tensor == tensor.to(torch.bfloat16)).float().mean())

    assert rounded("q_proj") == 1
    assert rounded("embed_tokens") < 0.1


@pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao (the extra 'memory')")
def test_moments_in_8_bits_go_where_those_in_32_do(
    on_ranks: dict[int, Found], start: dict[str, torch.Tensor]
) -> None:
    weights, _ = on_ranks[1]
    assert 0 < difference(weights["two steps"], weights["two steps, 8 bits"], start) < 0.2


def test_the_entropy_bonus_comes_with_the_steps_and_raises_entropy(on_ranks: dict[int, Found]) -> None:
    _, told = on_ranks[1]
    # c is 0, 0.5 and then 0.75, its bound; the entropy stays under 9 nats.
    assert told["entropy"]["entropy_coefficient"] == 0.75
    # Above the target the coefficient has no weight, whatever it is.
    assert told["entropy, too high"]["entropy_coefficient"] == 0
    assert told["entropy"]["entropy"] > told["three steps"]["entropy"]
