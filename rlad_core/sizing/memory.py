"""Bytes of one process of each role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rlad_core.config import RunConfig, ServeTeacher
from rlad_core.sizing.gpus import Gpu
from rlad_core.sizing.learner import adapter_parameters, learner_need
from rlad_core.sizing.need import BYTES, CHUNK, GIB, Need, kept_per_token, lower
from rlad_core.sizing.shapes import Shape, shape_of

_EXPERIENCE_BYTES: Final = 20
"""A token's: its id, log-probs of policy and teacher, its version."""
_TOP_BYTES: Final = 8
"""A likely token's id and its log-prob."""


def rollout_need(config: RunConfig, shape: Shape, gpu: Gpu | None) -> Need:
    """One replica of the rollout service, on each GPU that it spans."""
    rollout, value = config.rollout, BYTES[config.policy.dtype]
    weights = value * shape.parameters / rollout.tensor_parallel_size
    if rollout.num_gpus and gpu is not None:
        cache = gpu.memory * rollout.gpu_memory_utilization - weights
    else:
        cache = rollout.kv_cache_memory_gib * GIB
    per_token = shape.kv_bytes(value) / rollout.tensor_parallel_size
    sequences = int(max(0.0, cache) // (per_token * config.policy.max_length))
    return Need(
        "rollout service",
        config.policy.model,
        rollout.num_gpus,
        {"weights": weights, "KV cache": max(0.0, cache)},
        field="rollout.gpu_memory_utilization" if rollout.num_gpus else "rollout.kv_cache_memory_gib",
        ways={"weights": "raise rollout.tensor_parallel_size, and rollout.num_gpus with it"},
        note=f"{sequences:,} sequences of {config.policy.max_length:,} tokens at a time",
        **_sleeping(rollout.sleep, weights),
    )


def teacher_need(
    config: RunConfig, place: str, teacher: ServeTeacher, shape: Shape, gpu: Gpu | None
) -> Iterator[Need]:
    """One replica of each service of a teacher, on each GPU that it spans.

    Args:
        place: of the teacher in the recipe.
    """
    value = BYTES[teacher.dtype]
    weights = value * shape.parameters / (teacher.tensor_parallel_size * teacher.pipeline_parallel_size)
    if place in config.demonstrators:
        yield _engine_need("teacher as demonstrator", place, teacher, weights, gpu)
    if place not in config.scoring_services:
        return
    if teacher.engine == "vllm":
        yield _engine_need("teacher service", place, teacher, weights, gpu)
        return
    # Without a gradient nothing is kept: one layer's values, and a chunk of logits.
    tokens = teacher.max_tokens_per_batch
    layer = kept_per_token(shape, teacher.dtype, on_gpu=teacher.num_gpus > 0) * tokens
    logits = 4 * min(CHUNK, tokens) * shape.vocabulary
    yield Need(
        "teacher service",
        teacher.model,
        teacher.num_gpus,
        {"weights": weights, "a layer, or logits": float(max(layer, logits))},
        field=f"{place}.max_tokens_per_batch",
        ways={
            "weights": f"write {place}.engine: vllm, and as many {place}.tensor_parallel_size and "
            f"{place}.num_gpus as its weights want",
            "a layer, or logits": lower(tokens, teacher.longest(config.policy.max_length)),
        },
        note=f"{tokens:,} tokens a batch",
        **_sleeping(teacher.sleep and teacher.num_gpus > 0, weights),
    )


def _engine_need(role: str, place: str, teacher: ServeTeacher, weights: float, gpu: Gpu | None) -> Need:
    """A teacher in vLLM."""
    cache, field = teacher.kv_cache_memory_gib * GIB, "kv_cache_memory_gib"
    if teacher.num_gpus and gpu is not None:
        cache, field = gpu.memory * teacher.gpu_memory_utilization - weights, "gpu_memory_utilization"
    return Need(
        role,
        teacher.model,
        teacher.num_gpus,
        {"weights": weights, "KV cache": max(0.0, cache)},
        field=f"{place}.{field}",
        ways={"weights": f"raise {place}.tensor_parallel_size, and {place}.num_gpus with it"},
        **_sleeping(teacher.sleep, weights),
    )


def _sleeping(sleeps: bool, weights: float) -> dict[str, Any]:
    """Of an engine's `Need`: asleep, its weights are on the host."""
    passing = frozenset({"weights", "KV cache", "a layer, or logits"})
    return {"host": {"sleeping weights": weights}, "passing": passing, "sleeps": True} if sleeps else {}


def transfer_need(config: RunConfig, shape: Shape) -> Need:
    """The host memory of the policy store's node: the version being taken, and one beside it.

    Pushed weights are never there as one image.
    """
    adapter = config.learner.published_adapter
    size = shape.parameters if adapter is None else adapter_parameters(shape, adapter)
    image = float(BYTES[config.policy.dtype] * size)
    pulled = config.weights.transfer == "object_store"
    parts = {"the version being taken": image, "the one beside it": image} if pulled else {}
    note = "once on each node with a rollout replica" if pulled else f"pushed by {config.weights.transfer}"
    return Need("policy store", config.policy.model, 0, parts, "weights.transfer", note=note)


def experience_need(config: RunConfig) -> Need:
    """Ray's object store: a step's experience as it comes and assembled, if every response is as long as it
    may be. While groups are sampled ahead the next step's is assembled beside this one's, and what is kept
    whole lies beside the ranks' shards.
    """
    tokens = config.responses_per_step * config.policy.max_length
    told = config.responses_per_step * config.rollout.max_response_length
    assembled = 2 if config.rollout.max_staleness else 1
    times = 1 + assembled * (2 if config.telemetry.keep_experience == "all" else 1)
    parts = {"experience of a step": float(times * _EXPERIENCE_BYTES * tokens)}
    if top_k := max(config.teacher_top_k, config.policy_top_k):
        parts["likely tokens"] = float(times * _TOP_BYTES * top_k * told)
    return Need(
        "object store", "", 0, parts,
        field="cluster.object_store_gib",
        note=f"cluster.object_store_gib: {config.cluster.object_store_gib:g}",
    )  # fmt: skip


def needs(config: RunConfig, gpu: Gpu | None) -> list[Need]:
    """What one process of each role takes; roles whose model's shape is unknown are left out.

    Args:
        gpu: what the roles on GPUs run on.
    """
    found: list[Need] = []
    if (policy := shape_of(config.policy.model)) is not None:
        found += [learner_need(config, policy), rollout_need(config, policy, gpu)]
        found += [transfer_need(config, policy), experience_need(config)]
    for place, teacher in config.served_teachers.items():
        if (shape := shape_of(teacher.model)) is not None:
            found += teacher_need(config, place, teacher, shape, gpu)
    return found
