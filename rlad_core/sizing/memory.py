"""Bytes of one process of each role."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from rlad_core.config import RunConfig, ServeTeacher
from rlad_core.config.engines import Dtype, RolloutEngine, TeacherEngine
from rlad_core.sizing.gpus import Gpu
from rlad_core.sizing.learner import adapter_parameters, hidden_states_teacher, learner_need
from rlad_core.sizing.need import BYTES, CHUNK, GIB, Need, halved, kept_per_token, lower
from rlad_core.sizing.shapes import Shape, shape_of

_EXPERIENCE_BYTES: Final = 20
"""A token's: its id, log-probs of policy and teacher, its version."""
_LOGIT_BYTES: Final = 6
"""In vLLM, with the log-prob that is made of it."""
_LIKELY: Final = "log-probs of a batch"
_TOP_BYTES: Final = 8
"""A likely token's id and its log-prob."""


def rollout_need(config: RunConfig, shape: Shape, gpu: Gpu | None) -> Need:
    """One replica of the rollout service, on each GPU that it spans."""
    rollout, value = config.rollout, BYTES[config.policy.dtype]
    weights = value * shape.parameters / rollout.tensor_parallel_size
    working = _sampling(config, shape, config.policy.dtype, rollout.tensor_parallel_size)
    cache, working, field = _cache(rollout, weights, working, gpu)
    one = shape.kv_bytes(value) / rollout.tensor_parallel_size * config.policy.max_length
    return Need(
        "rollout service",
        config.policy.model,
        rollout.num_gpus,
        {"weights": weights, "KV cache": cache},
        field=f"rollout.{field}",
        written=getattr(rollout, field),
        ways={
            "weights": halved("policy", config.policy.dtype, rollout.num_gpus)
            + "raise rollout.tensor_parallel_size, and rollout.num_gpus with it",
            "an engine step": "lower rollout.max_num_batched_tokens",
        },
        note=f"{int(cache // one):,} sequences of {config.policy.max_length:,} tokens at a time",
        least={"keys and values of the longest sequence": one, "an engine step": working},
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
        working = _sampling(config, shape, teacher.dtype, teacher.tensor_parallel_size)
        longest = config.policy.max_length
        step = "rollout.max_num_batched_tokens"
        yield _engine_need("teacher as demonstrator", place, teacher, shape, longest, working, step, gpu)
    if place not in config.scoring_services:
        return
    if teacher.engine == "vllm":
        # Only the rows of responses reach the head, in small chunks.
        working = _layer(shape, teacher.dtype, teacher.max_tokens_per_batch, teacher.tensor_parallel_size)
        longest, step = teacher.longest(config.policy.max_length), f"{place}.max_tokens_per_batch"
        need = _engine_need("teacher service", place, teacher, shape, longest, working, step, gpu)
        if config.teacher_top_k and teacher.num_gpus:
            # Of all rows at once, which vLLM does not count into its share.
            likely = float(_LOGIT_BYTES * teacher.max_tokens_per_batch * shape.vocabulary)
            ways = {**need.ways, _LIKELY: f"lower {step}"}
            need = replace(need, parts={**need.parts, _LIKELY: likely}, ways=ways)
        yield need
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
            "weights": halved(place, teacher.dtype, teacher.num_gpus)
            + f"write {place}.engine: vllm, and as many {place}.tensor_parallel_size and "
            f"{place}.num_gpus as its weights want",
            "a layer, or logits": lower(tokens, teacher.longest(config.policy.max_length)),
        },
        note=f"{tokens:,} tokens a batch",
        **_sleeping(teacher.sleep and teacher.num_gpus > 0, weights),
    )


def _engine_need(
    role: str,
    place: str,
    teacher: ServeTeacher,
    shape: Shape,
    longest: int,
    working: float,
    step: str,
    gpu: Gpu | None,
) -> Need:
    """A teacher in vLLM.

    Args:
        longest: tokens of its longest sequence.
        working: bytes of an engine step's values.
        step: the setting that says how many tokens these are of.
    """
    span, value = teacher.tensor_parallel_size * teacher.pipeline_parallel_size, BYTES[teacher.dtype]
    weights = value * shape.parameters / span
    cache, working, field = _cache(teacher, weights, working, gpu)
    return Need(
        role,
        teacher.model,
        teacher.num_gpus,
        {"weights": weights, "KV cache": cache},
        field=f"{place}.{field}",
        written=getattr(teacher, field),
        ways={
            "weights": halved(place, teacher.dtype, teacher.num_gpus)
            + f"raise {place}.tensor_parallel_size, and {place}.num_gpus with it",
            "an engine step": f"lower {step}",
        },
        least={
            "keys and values of the longest sequence": shape.kv_bytes(value) / span * longest,
            "an engine step": working,
        },
        **_sleeping(teacher.sleep, weights),
    )


def _cache(
    engine: RolloutEngine | TeacherEngine, weights: float, working: float, gpu: Gpu | None
) -> tuple[float, float, str]:
    """Bytes of vLLM's KV cache, and the setting: of a GPU it gets a share, less the weights.

    Args:
        working: of an engine step's values, which come out of that share too.

    Returns:
        The cache, what of `working` it has to have room for, and the setting's name.
    """
    if not engine.num_gpus or gpu is None:
        return engine.kv_cache_memory_gib * GIB, 0.0, "kv_cache_memory_gib"
    room = gpu.memory * engine.gpu_memory_utilization - weights
    return max(0.0, room), working, "gpu_memory_utilization"


def _sampling(config: RunConfig, shape: Shape, dtype: Dtype, tensor_parallel_size: int) -> float:
    """Bytes of an engine step that samples: a layer's, or logits of all responses at a time."""
    layer = _layer(shape, dtype, config.rollout.max_num_batched_tokens, tensor_parallel_size)
    return max(layer, float(_LOGIT_BYTES * config.rollout.max_num_seqs * shape.vocabulary))


def _layer(shape: Shape, dtype: Dtype, tokens: int, tensor_parallel_size: int) -> float:
    """Bytes of one layer's values without a gradient: gate, up, their product, and what goes around them."""
    return float(BYTES[dtype] * tokens * (3 * shape.mlp / tensor_parallel_size + 2 * shape.width))


def _sleeping(sleeps: bool, weights: float) -> dict[str, Any]:
    """Of an engine's `Need`: asleep, its weights are on the host."""
    passing = frozenset({"weights", "KV cache", "a layer, or logits", _LIKELY})
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
    may be. While groups are sampled ahead the next step's is assembled beside this one's, that of later steps
    (max_staleness of them, with the next one) lies there as it comes, and what is kept whole lies beside the
    ranks' shards. Each rank takes the teacher's hidden states of one micro-batch out of it while those of the
    next come.
    """
    tokens = config.responses_per_step * config.policy.max_length
    told = config.responses_per_step * config.rollout.max_response_length
    # None of another stage is sampled before that begins.
    ahead = min(config.rollout.max_staleness, max(stage.steps for stage in config.stages) - 1)
    assembled = 2 if ahead else 1
    times = max(1, ahead) + assembled * (2 if config.telemetry.keep_experience == "all" else 1)
    parts = {"experience of a step": float(times * _EXPERIENCE_BYTES * tokens)}
    if top_k := max(config.teacher_top_k, config.policy_top_k):
        parts["likely tokens"] = float(times * _TOP_BYTES * top_k * told)
    if (pulled_from := hidden_states_teacher(config)) is not None:
        teacher, shape = pulled_from
        at_a_time = 2 * config.learner.workers * config.learner.tokens_per_micro_batch
        parts["hidden states"] = float(BYTES[teacher.dtype] * shape.width * at_a_time)
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
