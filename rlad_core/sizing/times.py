"""Seconds of a step's stages, if every response is as long as it may be.

    rollout   waves x L x max((weights + keys and values read) / bandwidth, 2 P c / FLOP/s)
    teacher   (2 P + attention) x tokens / FLOP/s, each group's prompt once
    learner   (6 P + 3 attention, a forward pass more where all activations are recomputed) x tokens / FLOP/s;
              a forward pass more for the old policy of all mini-batches but the first, and for a teacher that
              it keeps itself; a teacher that it asks for hidden states passes all responses once more beside
              it

with L tokens of a response, c responses at a time in a replica, P weights. Rates are those of a GPU's data
sheet for the type of a role's values, times the shares below. A step strictly on-policy is the longer of
rollout and teacher, which work side by side, and then the learner; where groups are sampled ahead, on devices
of their own, it is the longest of the three. Not counted: handing over weights, verdicts, prompts being read,
and that most responses are shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from rlad_core.config import RunConfig, ServeTeacher
from rlad_core.config.run import REFERENCE, Stage
from rlad_core.large import recomputed
from rlad_core.sizing.gpus import Gpu
from rlad_core.sizing.memory import rollout_need
from rlad_core.sizing.need import BYTES
from rlad_core.sizing.shapes import Shape, shape_of

LEARNER_SHARE: Final = 0.25
"""Of the GPU's FLOP/s: measured in bfloat16 with a model of 0.6B's shape on an H200, see
docs/performance.md; in float32 assumed.
"""
FORWARD_SHARE: Final = 0.4
"""Of the GPU's FLOP/s in a forward pass alone: assumed."""
BANDWIDTH_SHARE: Final = 0.6
"""Of the memory's bandwidth while an engine generates: assumed."""


@dataclass(frozen=True)
class StageTime:
    """One stage of a step.

    Attributes:
        stage: rollout, teacher or update.
        gpus: that work on it.
        tokens: that it goes through.
        flops: operations of it.
        seconds: its length.
        unit: GPUs of one replica, or rank: below 1, it shares one with others.
        beside_update: seconds of its work that the update waits for, where it is longer.
    """

    stage: str
    gpus: float
    tokens: float
    flops: float
    seconds: float
    unit: float = 1
    beside_update: float = 0.0


@dataclass(frozen=True)
class _Role:
    """What works on a stage.

    Attributes:
        count: replicas, or ranks, that the recipe has.
        at: the stage with so many of them.
        multiple: of which their number is one.
        most: a recipe with more of them is refused.
    """

    count: int
    at: Callable[[int], StageTime]
    multiple: int = 1
    most: float = math.inf


def times(config: RunConfig, stage: Stage, gpu: Gpu) -> list[StageTime]:
    """The stages of one step that run on GPUs and whose models' shapes are known."""
    return [role.at(role.count) for role in _roles(config, stage, gpu)]


def _roles(config: RunConfig, stage: Stage, gpu: Gpu) -> list[_Role]:
    policy = shape_of(config.policy.model)
    if policy is None or not stage.objective.trains_on_rollouts:
        return []
    found: list[_Role] = []
    if config.rollout.num_gpus:
        found.append(_Role(config.rollout.num_replicas, partial(_rollout, config, policy, gpu)))
    if stage.objective.scores_with_teacher:
        # Several teachers share the responses; the first stands for all.
        served = (each for place, each in config.served_teachers.items() if place != REFERENCE)
        teacher = next(served, None)
        shape = None if teacher is None else shape_of(teacher.model)
        if teacher is not None and shape is not None and teacher.num_gpus:
            found.append(_Role(teacher.num_replicas, partial(_teacher, config, stage, teacher, shape, gpu)))
    if config.learner.num_gpus:
        update = partial(_update, config, stage, policy, gpu)
        found.append(
            _Role(config.learner.workers, update, config.learner.fsdp_size or 1, _most_ranks(config))
        )
    return found


def _most_ranks(config: RunConfig) -> int:
    """Of the learner: each has a sequence of every update."""
    groups = config.rollout.prompts_per_step // config.learner.updates_per_batch
    objectives = (stage.objective for stage in config.stages)
    return groups * min(each.responses_to_a_prompt(config.rollout.group_size) for each in objectives)


def works_ahead(config: RunConfig) -> bool:
    """Whether groups are sampled while the learner works, and neither takes the other's GPU meanwhile."""
    return config.rollout.max_staleness > 0 and not 0 < config.learner.num_gpus < 1


def step_seconds(found: list[StageTime], *, ahead: bool = False) -> float:
    """A step strictly on-policy: rollout and teacher side by side, then the update, for which the teacher may
    be asked once more.

    Args:
        ahead: all of them side by side, each at another step, see `works_ahead`.
    """
    if ahead:
        return max((each.seconds + each.beside_update for each in found), default=0.0)
    before = max((each.seconds for each in found if each.stage != "update"), default=0.0)
    update = sum(each.seconds for each in found if each.stage == "update")
    return before + max([update, *(each.beside_update for each in found)])


def evaluation_seconds(config: RunConfig, problems: int, gpu: Gpu) -> float | None:
    """An evaluation on so many problems, likewise; None where it runs on CPUs or the shape isn't known."""
    policy, replicas = shape_of(config.policy.model), config.rollout.num_replicas
    if policy is None or not config.rollout.num_gpus:
        return None
    asked = {
        "prompts_per_step": problems,
        "group_size": config.evaluation.samples,
        "max_response_length": config.evaluation_response_length,
    }
    sampled = config.model_copy(update={"rollout": config.rollout.model_copy(update=asked)})
    return _rollout(sampled, policy, gpu, replicas).seconds


def balanced(config: RunConfig, stage: Stage, gpu: Gpu) -> list[StageTime]:
    """The same GPUs, split over the stages so that a step is shortest; shared GPUs stay as they are."""
    roles = _roles(config, stage, gpu)
    found = [role.at(role.count) for role in roles]
    total = int(sum(each.gpus for each in found))
    if len(found) < 2 or any(each.unit < 1 for each in found):
        return found
    units = [int(each.unit) * role.multiple for each, role in zip(found, roles, strict=True)]
    at = [
        {count * int(each.unit): role.at(count) for count in _counts(role, total // int(each.unit))}
        for each, role in zip(found, roles, strict=True)
    ]
    splits = (
        [stages[gpus] for stages, gpus in zip(at, split, strict=True)]
        for split in _splits(total, units)
        if all(gpus in stages for stages, gpus in zip(at, split, strict=True))
    )
    return min(splits, key=partial(step_seconds, ahead=works_ahead(config)), default=found)


def _counts(role: _Role, most: int) -> range:
    """How many replicas, or ranks, of a role there can be."""
    return range(role.multiple, int(min(role.most, most)) + 1, role.multiple)


def _splits(total: int, units: list[int]) -> Iterator[list[int]]:
    first, *others = units
    if not others:
        if total >= first and total % first == 0:
            yield [total]
        return
    for gpus in range(first, total, first):
        for rest in _splits(total - gpus, others):
            yield [gpus, *rest]


def _prompt(config: RunConfig) -> int:
    """Tokens of a prompt, at most."""
    return min(config.policy.prompt_limit, config.policy.max_length - config.rollout.max_response_length)


def _attention(shape: Shape, length: float) -> float:
    """Operations of attention for one token that has `length` / 2 before it on average, forward."""
    return 4 * shape.layers * shape.heads * shape.head * length / 2


def _rollout(config: RunConfig, shape: Shape, gpu: Gpu, replicas: int) -> StageTime:
    rollout = config.rollout
    span = rollout.tensor_parallel_size
    responses = rollout.prompts_per_step * rollout.group_size
    length, prompt = rollout.max_response_length, _prompt(config)
    value, rate = BYTES[config.policy.dtype], gpu.flops[config.policy.dtype]
    cache = rollout_need(config, shape, gpu).parts["KV cache"] * span
    fitting = max(1, int(cache // (shape.kv_bytes(value) * (prompt + length))))
    of_replica = math.ceil(responses / replicas)
    together = min(of_replica, rollout.max_num_seqs, fitting)
    read = value * shape.parameters + together * shape.kv_bytes(value) * (prompt + length / 2)
    multiplied = together * (2 * shape.parameters + _attention(shape, 2 * prompt + length))
    a_token = max(read / (gpu.bandwidth * BANDWIDTH_SHARE), multiplied / (rate * FORWARD_SHARE)) / span
    waves = math.ceil(of_replica / together)
    return StageTime(
        "rollout",
        replicas * rollout.num_gpus,
        responses * length,
        responses * length * multiplied / together,
        waves * length * a_token,
        unit=rollout.num_gpus,
    )


def _teacher(
    config: RunConfig, stage: Stage, teacher: ServeTeacher, shape: Shape, gpu: Gpu, replicas: int
) -> StageTime:
    groups, size = config.rollout.prompts_per_step, config.rollout.group_size
    length, prompt = config.rollout.max_response_length, _prompt(config)
    tokens = groups * (prompt + size * length)
    per_token = 2 * shape.parameters + _attention(shape, prompt + length)
    gpus = replicas * teacher.num_gpus
    rate = gpus * gpu.flops[teacher.dtype] * FORWARD_SHARE
    # By micro-batches, which tear groups apart: each response with its prompt.
    again = groups * size * (prompt + length) if stage.objective.hidden_alpha(0) is not None else 0
    flops = tokens * per_token
    return StageTime("teacher", gpus, tokens, flops, flops / rate, teacher.num_gpus, again * per_token / rate)


def _update(config: RunConfig, stage: Stage, shape: Shape, gpu: Gpu, ranks: int) -> StageTime:
    learner = config.learner
    length = config.rollout.max_response_length + _prompt(config)
    tokens = config.responses_per_step * length
    forward = 2 * shape.parameters + _attention(shape, length)
    # What is recomputed beside products of matrices and attention, which are counted here, is little.
    again = recomputed(learner.activation_checkpointing, shape.parameters) == "full"
    passes: float = (4 if again else 3) * learner.epochs_per_batch
    # Log-probs of the old policy; the first mini-batch's own pass tells them, but for normalised returns.
    passes += 1.0 if stage.objective.normalises_returns else 1 - 1 / learner.updates_per_batch
    gpus, rate = ranks * learner.num_gpus, gpu.flops[config.policy.dtype]
    flops = passes * forward * tokens
    if config.policy_teacher is not None and stage.objective.scores_with_teacher:
        read = length + config.learner_reads - config.policy.max_length
        flops += config.responses_per_step * read * (2 * shape.parameters + _attention(shape, read))
    seconds = flops / (gpus * rate * LEARNER_SHARE)
    return StageTime("update", gpus, tokens, flops, seconds, learner.num_gpus)
