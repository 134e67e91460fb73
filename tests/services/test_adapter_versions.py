"""Versions that are adapters: vLLM answers as the model with the adapter merged into it."""

import copy
from collections.abc import Iterator

import pytest
import torch
from rollout_service import (
    TOLERANCE,
    StartedRollouts,
    check_held_over,
    difference,
    prompts,
    start_rollouts,
)

from rlad_core.config import LoraConfig
from services.rollout.settings import SamplingSettings
from services.weights.store import publish, sync

# An engine of its own.
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

LORA = LoraConfig(rank=4, alpha=8.0, modules=("q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"))
SAMPLING = SamplingSettings(group_size=2, max_tokens=24, seed=5)


@pytest.fixture(scope="module")
def adapted(ray_cluster: None, padded_tiny_model) -> Iterator[StartedRollouts]:
    with start_rollouts("adapted", padded_tiny_model, num_replicas=1, adapter=LORA) as started:
        yield started


def _adapter(policy: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Under peft's names."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, torch.Tensor] = {}
    for name, layer in policy.named_modules():
        if name.rpartition(".")[2] in LORA.modules:
            rows, columns = layer.weight.shape
            for side, shape in (("A", (LORA.rank, columns)), ("B", (rows, LORA.rank))):
                made[f"base_model.model.{name}.lora_{side}.weight"] = 0.1 * torch.randn(
                    shape, generator=generator
                )
    return made


@torch.no_grad()
def _merge(policy: torch.nn.Module, adapter: dict[str, torch.Tensor], sign: int = 1) -> None:
    for name, layer in policy.named_modules():
        if (first := adapter.get(f"base_model.model.{name}.lora_A.weight")) is not None:
            second = adapter[f"base_model.model.{name}.lora_B.weight"]
            layer.weight += sign * LORA.alpha / LORA.rank * (second @ first)


def test_a_response_held_over_the_first_version_goes_on_with_it(adapted: StartedRollouts) -> None:
    """First in this file: the engine has its model alone before."""
    assert difference(adapted.policy, adapted.generate(prompts(4), SAMPLING)) < TOLERANCE
    call = adapted.begin_long()
    adapter = _adapter(adapted.policy, 0)
    version = next(adapted.versions)
    publish(adapted.store, version, adapter)
    sync(adapted.handle, version, 1, timeout_s=60)
    merged = copy.deepcopy(adapted.policy)
    _merge(merged, adapter)
    rows = call.result(timeout_s=120).to_pylist()
    check_held_over(rows, (0, adapted.policy), (version, merged))


def test_each_version_replaces_the_one_before(adapted: StartedRollouts) -> None:
    for seed in (1, 2):
        adapter = _adapter(adapted.policy, seed)
        version = next(adapted.versions)
        publication = publish(adapted.store, version, adapter)
        assert publication.num_bytes < 2e5
        [report] = sync(adapted.handle, version, 1, timeout_s=60)
        assert report["version"] == version
        found = adapted.generate(prompts(4), SAMPLING, version)
        assert difference(adapted.policy, found) > 0.01, "the adapter must be one that shows"
        _merge(adapted.policy, adapter)
        assert difference(adapted.policy, found) < TOLERANCE
        assert {each for row in found["policy_versions"].to_pylist() for each in row} == {version}
        assert _sleep_and_wake(adapted)
        assert difference(adapted.policy, adapted.generate(prompts(4), SAMPLING, version)) < TOLERANCE
        _merge(adapted.policy, adapter, -1)


def _sleep_and_wake(adapted: StartedRollouts) -> bool:
    return bool(adapted.broadcast("sleep") and adapted.broadcast("wake"))
