"""Bytes of one rank of the learner (FSDP2, float32 weights, passes in the policy's dtype).

    weights       4 P / N          AdamW           8 P / N; in 8 bits 2 P / N
    gradients     4 P / N + 8 L    local: 4 P, whole on every rank from the first micro-batch to the last
    older policy  4 P / N          where it is the teacher
    gathered      4 E + 2 b L      the head in float32, and a layer with the next one; an untied embedding b E
    kept          b D t per layer where activations are recomputed, else A t
    at work       the larger of: one layer's A t; the chunk of logits twice, and the head's gradient
    checkpoint    12 P / N, in 8 bits 6 P / N, of host memory while one is written, and the older policy

with N ranks of one copy (learner.fsdp_size), P parameters, E of the embedding, L of a layer, D the width, t
the tokens of a micro-batch, b bytes of a value, and A the bytes that a layer keeps of a token: each norm its
input in float32 and both of its results, the rotation and attention theirs, the MLP four of its width. With
learner.cpu_offload weights, gradients and optimizer lie on the host.
"""

from __future__ import annotations

from rlad_core.config import RunConfig, ServeTeacher
from rlad_core.config.lora import LoraConfig
from rlad_core.large import LARGE_FROM_PARAMETERS, recomputed
from rlad_core.sizing.need import BYTES, CHUNK, GIB, Need, halved, kept_per_token, lower
from rlad_core.sizing.shapes import Shape, shape_of


def learner_need(config: RunConfig, shape: Shape) -> Need:
    """One rank of the learner."""
    learner, dtype = config.learner, config.policy.dtype
    ranks = learner.fsdp_size or learner.workers
    tokens, value = learner.tokens_per_micro_batch, BYTES[dtype]
    size, on_gpu = shape.parameters, learner.num_gpus > 0
    large = size >= LARGE_FROM_PARAMETERS
    recompute = recomputed(learner.activation_checkpointing, size)
    scattered = learner.gradients == "scattered" or (learner.gradients == "auto" and large)
    layer = kept_per_token(shape, dtype, on_gpu=on_gpu) * tokens
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    products = 2 * value * (shape.width + queries + keys + shape.mlp) * tokens
    kept = {
        "full": value * shape.width * tokens,
        "selective": value * shape.width * tokens + products,
        "off": layer,
    }[recompute]
    logits = 2 * 4 * min(CHUNK, tokens) * shape.vocabulary
    if learner.lora is None:
        logits += 4 * shape.embedding_parameters  # the head's gradient
    head = 4 if dtype == "bfloat16" or shape.tied else value
    gathered = head * shape.embedding_parameters + 2 * value * shape.layer_parameters
    if not shape.tied:
        gathered += value * shape.embedding_parameters
    trained = size if learner.lora is None else adapter_parameters(shape, learner.lora)
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
    if config.policy_teacher is not None:
        lasting["the older policy"] = 4.0 * trained / ranks
    # Of weights and moments, in host memory while it is written and training goes on.
    saved = ("weights", "optimizer", "the older policy")
    written = {"a checkpoint's copy": sum(lasting.get(each, 0.0) for each in saved)}
    note = ""
    if (pulled_from := hidden_states_teacher(config)) is not None:
        teacher, theirs = pulled_from
        state = BYTES[teacher.dtype] * theirs.width  # of a token
        lasting["the teacher's head"] = float(BYTES[teacher.dtype] * theirs.embedding_parameters)
        passing["the teacher's hidden states"] = float(2 * state * tokens)  # and those of the next one
        passing["the teacher's logits"] = float(2 * 4 * min(CHUNK, tokens) * theirs.vocabulary)
        rollout = config.rollout
        told = rollout.prompts_per_step * rollout.group_size * rollout.max_response_length
        note = f", pulls {state:,} bytes a response token of the teacher, {state * told / GIB:.3g} "
        note += "GiB a step"
    offloaded = learner.cpu_offload and on_gpu
    if not on_gpu:
        passing |= written
    return Need(
        "learner",
        config.policy.model,
        learner.num_gpus,
        passing if offloaded else lasting | passing,
        field="learner.tokens_per_micro_batch",
        ways=_learners_ways(config, recompute, scattered=scattered),
        note=f"{tokens:,} tokens a micro-batch, activations: {recompute}, "
        f"gradients: {'scattered' if scattered else 'local'}{note}",
        host=({**lasting, **written} if offloaded else written) if on_gpu else {},
        passing=frozenset({"gradients", *passing}),
    )


def hidden_states_teacher(config: RunConfig) -> tuple[ServeTeacher, Shape] | None:
    """The teacher whose hidden states the learner pulls; None: there is none, or its shape is unknown."""
    teacher = next(iter(config.served_teachers.values()), None)
    if not config.needs_hidden_states or teacher is None:
        return None
    shape = shape_of(teacher.model)
    return None if shape is None else (teacher, shape)


def _learners_ways(config: RunConfig, recompute: str, *, scattered: bool) -> dict[str, str]:
    shared = "raise learner.workers, or write learner.cpu_offload: true"
    less = halved("policy", config.policy.dtype, config.learner.num_gpus)
    less += lower(config.learner.tokens_per_micro_batch, config.policy.max_length)
    return {
        "weights": shared,
        "optimizer": shared,
        "the older policy": shared,
        "gradients": shared if scattered else "write learner.gradients: scattered, or raise learner.workers",
        "kept activations": less
        + ("" if recompute == "full" else ", or learner.activation_checkpointing: full"),
        "a layer, or logits": less,
    }


def adapter_parameters(shape: Shape, lora: LoraConfig) -> int:
    """Weights of the adapters: each layer's two sides, rank times."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    width, mlp = shape.width, shape.mlp
    sides = {
        "q_proj": width + queries, "k_proj": width + keys, "v_proj": width + keys, "o_proj": queries + width,
        "gate_proj": width + mlp, "up_proj": width + mlp, "down_proj": mlp + width,
    }  # fmt: skip
    return lora.rank * shape.layers * sum(sides.get(name, 0) for name in lora.modules)
