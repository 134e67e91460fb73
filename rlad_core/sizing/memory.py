"""Bytes of one process of each role.

The learner, on each rank (FSDP2, float32 weights, passes in the policy's dtype):

    weights       4 P / N          AdamW           8 P / N; in 8 bits 2 P / N
    gradients     4 P / N + 8 L    local: 4 P, whole on every rank from the first micro-batch to the last
    gathered      4 E + 2 b L      the head in float32, and a layer with the next one; an untied embedding b E
    kept          b D t per layer where activations are recomputed, else A t
    at work       the larger of: one layer's A t; the chunk of logits twice, and the head's gradient

with N ranks of one copy (learner.fsdp_size), P parameters, E of the embedding, L of a layer, D the width, t
the tokens of a micro-batch, b bytes of a value, and A the bytes that a layer keeps of a token: each norm its
input in float32 and both of its results, the rotation and attention theirs, the MLP four of its width. With
learner.cpu_offload weights, gradients and optimizer lie on the host.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from rlad_core.config import RunConfig, ServeTeacher
from rlad_core.config.engines import Dtype
from rlad_core.config.lora import LoraConfig
from rlad_core.large import LARGE_FROM_PARAMETERS
from rlad_core.sizing.gpus import Gpu
from rlad_core.sizing.shapes import Shape, shape_of

GIB = 2**30
RESERVE = 1.5 * GIB
"""What CUDA, NCCL and a fragmented allocator take on each GPU, beside what is counted."""

_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}
_EXPERIENCE_BYTES = (
    40  # a token: its id, log-probs of policy and teacher, its version, as they are and assembled
)
_TOP_BYTES = 8  # a likely token's id and its log-prob
_CHUNK = 1024  # tokens whose logits are held at once, see rlad_core.logprobs


@dataclass(frozen=True)
class Need:
    """What one process of a role takes on its GPU (on the host, where it has none).

    Attributes:
        role: such as "learner".
        model: its reference.
        gpus: share of a GPU, or how many of them; 0: it runs on CPUs.
        parts: bytes by what takes them.
        field: the setting that makes it smaller.
        note: what the numbers mean for the run.
        host: bytes of host memory, where it has a GPU.
        passing: parts that are there only while it works.
        sleeps: whether it gives its GPU away while the learner works.
    """

    role: str
    model: str
    gpus: float
    parts: dict[str, float]
    field: str
    note: str = ""
    host: dict[str, float] = dataclasses.field(default_factory=dict)
    passing: frozenset[str] = frozenset()
    sleeps: bool = False

    @property
    def at_rest(self) -> float:
        """Bytes of one GPU while another role works."""
        return sum(size for name, size in self.parts.items() if name not in self.passing)

    @property
    def total(self) -> float:
        """Bytes of one GPU."""
        return sum(self.parts.values())


def kept_per_token(shape: Shape, dtype: Dtype, *, on_gpu: bool = True) -> int:
    """Bytes that one layer keeps of a token for its backward pass (A above).

    On CPUs attention runs sequence by sequence, on keys and values repeated for each head.
    """
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    if dtype == "bfloat16":
        widths = (16, 10, 10, 8) if on_gpu else (16, 16, 6, 8)
    else:
        widths = (24, 16, 16, 16) if on_gpu else (24, 28, 8, 16)
    return sum(
        each * width for each, width in zip(widths, (shape.width, queries, keys, shape.mlp), strict=True)
    )


def learner_need(config: RunConfig, shape: Shape) -> Need:
    """One rank of the learner."""
    learner, dtype = config.learner, config.policy.dtype
    ranks = learner.fsdp_size or learner.workers
    tokens, value = learner.tokens_per_micro_batch, _BYTES[dtype]
    size = shape.parameters
    large = size >= LARGE_FROM_PARAMETERS
    recompute = learner.activation_checkpointing
    if recompute == "auto":
        recompute = "full" if large else "off"
    scattered = learner.gradients == "scattered" or (learner.gradients == "auto" and large)
    layer = kept_per_token(shape, dtype, on_gpu=learner.num_gpus > 0) * tokens
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    products = 2 * value * (shape.width + queries + keys + shape.mlp) * tokens
    kept = {
        "full": value * shape.width * tokens,
        "selective": value * shape.width * tokens + products,
        "off": layer,
    }[recompute]
    logits = 2 * 4 * min(_CHUNK, tokens) * shape.vocabulary
    if learner.lora is None:
        logits += 4 * shape.embedding_parameters  # the head's gradient
    head = 4 if dtype == "bfloat16" or shape.tied else value
    gathered = head * shape.embedding_parameters + 2 * value * shape.layer_parameters
    if not shape.tied:
        gathered += value * shape.embedding_parameters
    trained = size if learner.lora is None else _adapters(shape, learner.lora)
    lasting = {
        "weights": 4 * (size + (0 if learner.lora is None else trained)) / ranks,
        "optimizer": (2 if learner.optimizer == "adamw_8bit" else 8) * trained / ranks,
        "gradients": 4 * trained / ranks if scattered else 4.0 * trained,
    }
    passing = {
        "gathered weights": float(gathered + (8 * shape.layer_parameters if scattered and ranks > 1 else 0)),
        "kept activations": float(kept * shape.layers),
        "a layer, or logits": float(max(0 if recompute == "off" else layer, logits)),
    }
    note = ""
    if config.needs_hidden_states and (teacher := next(iter(config.served_teachers.values()), None)):
        theirs = shape_of(teacher.model)
        if theirs is not None:
            state = _BYTES[teacher.dtype] * theirs.width  # of a token
            lasting["the teacher's head"] = float(_BYTES[teacher.dtype] * theirs.embedding_parameters)
            passing["the teacher's hidden states"] = float(2 * state * tokens)  # and those of the next one
            passing["the teacher's logits"] = float(2 * 4 * min(_CHUNK, tokens) * theirs.vocabulary)
            rollout = config.rollout
            told = rollout.prompts_per_step * rollout.group_size * rollout.max_response_length
            note = f", pulls {state:,} bytes a response token of the teacher, {state * told / GIB:.3g} "
            note += "GiB a step"
    offloaded = learner.cpu_offload and learner.num_gpus > 0
    return Need(
        "learner",
        config.policy.model,
        learner.num_gpus,
        passing if offloaded else lasting | passing,
        field="learner.tokens_per_micro_batch",
        note=f"{tokens:,} tokens a micro-batch, activations: {recompute}, "
        f"gradients: {'scattered' if scattered else 'local'}{note}",
        host=lasting if offloaded else {},
        passing=frozenset({"gradients", *passing}),
    )


def _adapters(shape: Shape, lora: LoraConfig) -> int:
    """Weights of the adapters: each layer's two sides, rank times."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    width, mlp = shape.width, shape.mlp
    sides = {
        "q_proj": width + queries, "k_proj": width + keys, "v_proj": width + keys, "o_proj": queries + width,
        "gate_proj": width + mlp, "up_proj": width + mlp, "down_proj": mlp + width,
    }  # fmt: skip
    return lora.rank * shape.layers * sum(sides.get(name, 0) for name in lora.modules)


def rollout_need(config: RunConfig, shape: Shape, gpu: Gpu | None) -> Need:
    """One replica of the rollout service, on each GPU that it spans."""
    rollout, value = config.rollout, _BYTES[config.policy.dtype]
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
        note=f"{sequences:,} sequences of {config.policy.max_length:,} tokens at a time",
        **_sleeping(rollout.sleep, weights),
    )


def teacher_need(config: RunConfig, teacher: ServeTeacher, shape: Shape, gpu: Gpu | None) -> Need:
    """One replica of a teacher, on each GPU that it spans."""
    value, tokens = _BYTES[teacher.dtype], teacher.max_tokens_per_batch
    weights = value * shape.parameters / (teacher.tensor_parallel_size * teacher.pipeline_parallel_size)
    if teacher.engine == "vllm" and teacher.num_gpus and gpu is not None:
        parts = {
            "weights": weights,
            "KV cache": max(0.0, gpu.memory * teacher.gpu_memory_utilization - weights),
        }
        return Need(
            "teacher service", teacher.model, teacher.num_gpus, parts, "teacher.gpu_memory_utilization",
            **_sleeping(teacher.sleep, weights),
        )  # fmt: skip
    # Without a gradient nothing is kept: one layer's values, and a chunk of logits.
    layer = kept_per_token(shape, teacher.dtype, on_gpu=teacher.num_gpus > 0) * tokens
    logits = 4 * min(_CHUNK, tokens) * shape.vocabulary
    parts = {"weights": weights, "a layer, or logits": float(max(layer, logits))}
    return Need(
        "teacher service", teacher.model, teacher.num_gpus, parts, "teacher.max_tokens_per_batch",
        note=f"{tokens:,} tokens a batch",
        **_sleeping(teacher.sleep and teacher.num_gpus > 0, weights),
    )  # fmt: skip


def _sleeping(sleeps: bool, weights: float) -> dict[str, Any]:
    """Of an engine's `Need`: asleep, its weights are on the host."""
    passing = frozenset({"weights", "KV cache", "a layer, or logits"})
    return {"host": {"sleeping weights": weights}, "passing": passing, "sleeps": True} if sleeps else {}


def transfer_need(config: RunConfig, shape: Shape) -> Need:
    """The host memory of the policy store's node: the version being taken, and one beside it.

    Pushed weights are never there as one image.
    """
    adapter = config.learner.published_adapter
    size = shape.parameters if adapter is None else _adapters(shape, adapter)
    image = float(_BYTES[config.policy.dtype] * size)
    pulled = config.weights.transfer == "object_store"
    parts = {"the version being taken": image, "the one beside it": image} if pulled else {}
    note = "once on each node with a rollout replica" if pulled else f"pushed by {config.weights.transfer}"
    return Need("policy store", config.policy.model, 0, parts, "weights.transfer", note)


def experience_need(config: RunConfig) -> Need:
    """Ray's object store: the experience of a step, if every response is as long as it may be."""
    rollout = config.rollout
    tokens = rollout.prompts_per_step * rollout.group_size * config.policy.max_length
    told = rollout.prompts_per_step * rollout.group_size * rollout.max_response_length
    parts = {"experience of a step": float(_EXPERIENCE_BYTES * tokens)}
    if top_k := max(config.teacher_top_k, config.policy_top_k):
        parts["likely tokens"] = float(2 * _TOP_BYTES * top_k * told)
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
    for teacher in config.served_teachers.values():
        wanted = config.needs_teacher or teacher is config.reference
        if wanted and (shape := shape_of(teacher.model)) is not None:
            found.append(teacher_need(config, teacher, shape, gpu))
    return found
