"""Which pods a recipe's roles take.

A pod's memory is what `rlad plan` counts on the host for the processes in it, and what it does not count
there:

    each process on a GPU    8 GiB: CUDA's, torch's and vLLM's own
    each model read          its weights once, which go through the page cache of the pod
    the learner              the checkpoint that is being written, 12 bytes a weight, shared by all ranks
    the object store         30% of the pod, as Ray takes it: the experience of a step and the policy's images
                             lie there, so that 0.3 of the pod is at least as much
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rlad_core.config import RunConfig
from rlad_core.sizing import GIB, Gpu, Need, needs, shape_of
from rlad_core.sizing.memory import experience_need, teacher_need, transfer_need
from services.kubernetes.places import KubernetesError, roles

_GPU_PROCESS_GIB = 8
_CPU_PROCESS_GIB = 2
_CPUS_OF_GPU = 8
_STORE_SHARE = 0.3
_CHECKPOINT_BYTES = 12  # weights and both moments in float32; an older policy has weights too
_WEIGHT_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Group:
    """A group of equal pods.

    Attributes:
        name: of the role, and the value of its node label.
        pods: how many, from the beginning to the end.
        hosts: pods that one replica spans; `pods` counts them all.
        gpus, cpus, memory_gib: of one pod.
    """

    name: str
    pods: int
    gpus: int
    cpus: int
    memory_gib: int
    hosts: int = 1


@dataclass(frozen=True)
class _Role:
    """One place of a recipe: so many processes, each with so much."""

    place: str
    count: int
    gpus: float
    cpus: float
    model: str
    dtype: str


def groups(
    config: RunConfig, gpu: Gpu, gpus_per_node: int = 8, memory: dict[str, int] | None = None
) -> list[Group]:
    """All groups of a run, that of the services on CPUs first.

    Args:
        gpu: what the roles on GPUs run on.
        gpus_per_node: that one pod may have.
        memory: GiB of a pod by group, instead of what is counted.

    Raises:
        KubernetesError: a role's processes do not fill nodes evenly, or a model's size is not known.
    """
    given = dict(memory or {})
    by_group: dict[str, list[_Role]] = defaultdict(list)
    for place, name in roles(config).items():
        by_group[name].append(_role(config, place))
    services = _services(config)
    found = [replace(services, memory_gib=given.get(services.name, services.memory_gib))]
    for name, members in by_group.items():
        pods, per_pod, hosts = _pods(members, gpus_per_node)
        processes = {member.place: math.ceil(member.count / pods * hosts) for member in members}
        gib = given[name] if name in given else _memory(config, gpu, members, processes)
        cpus = sum(processes[member.place] * member.cpus for member in members)
        found.append(Group(name, pods, per_pod, max(math.ceil(cpus) + 1, _CPUS_OF_GPU * per_pod), gib, hosts))
    if unknown := given.keys() - (names := [group.name for group in found]):
        raise KubernetesError(
            f"--memory: there is no group {', '.join(unknown)}. Write one of {', '.join(names)}"
        )
    return found


def _role(config: RunConfig, place: str) -> _Role:
    if place == "learner":
        learner = config.learner
        return _Role(
            place, learner.workers, learner.num_gpus, learner.num_cpus, config.policy.model, "float32"
        )
    if place == "rollout":
        rollout = config.rollout
        return _Role(
            place,
            rollout.num_replicas,
            rollout.num_gpus,
            rollout.num_cpus,
            config.policy.model,
            config.policy.dtype,
        )
    teacher = config.served_teachers[place]
    # One that scores in a stage and writes in another is two services, each with all replicas.
    services = (place in config.scoring_services) + (place in config.demonstrators)
    return _Role(
        place,
        teacher.num_replicas * services,
        teacher.num_gpus,
        teacher.num_cpus,
        teacher.model,
        teacher.dtype,
    )


def _gpus(shares: list[float]) -> int:
    """GPUs that have room for all processes, the part of each on one of them, as Ray gives them out."""
    whole, room = 0, list[float]()
    for share in sorted(shares, reverse=True):
        if share >= 1:
            whole += math.ceil(share)
            continue
        place = next((place for place, left in enumerate(room) if share <= left + 1e-9), None)
        if place is None:
            room.append(1.0)
            place = -1
        room[place] -= share
    return whole + len(room)


def _pods(members: list[_Role], gpus_per_node: int) -> tuple[int, int, int]:
    """Pods, GPUs of one, and pods that one process spans."""
    [first, *others] = members
    if others or 0 < first.gpus < 1:  # parts of a GPU
        whole = _gpus([member.gpus for member in members for _ in range(member.count)])
        if whole > gpus_per_node:
            raise KubernetesError(
                f"{', '.join(m.place for m in members)} share {whole} GPUs, and a node has "
                f"{gpus_per_node}. Give each "
                "process a whole one (num_gpus: 1)"
            )
        return 1, whole, 1
    if first.gpus > gpus_per_node:
        hosts = math.ceil(first.gpus / gpus_per_node)
        if first.gpus % hosts:
            raise KubernetesError(
                f"{first.place}.num_gpus: {first.gpus:g} cannot be shared evenly by {hosts} nodes of "
                f"{gpus_per_node}"
            )
        return first.count * hosts, int(first.gpus / hosts), hosts
    if first.place != "learner":
        return (first.count, int(first.gpus), 1) if first.gpus else (1, 0, 1)
    # Ranks talk to each other at every layer: as many as fit share a pod.
    most = int(gpus_per_node // first.gpus) if first.gpus else first.count
    per_pod = max(ranks for ranks in range(1, min(most, first.count) + 1) if first.count % ranks == 0)
    return first.count // per_pod, int(per_pod * first.gpus), 1


def _memory(config: RunConfig, gpu: Gpu, members: list[_Role], processes: dict[str, int]) -> int:
    """GiB of one pod."""
    working = 0.0
    for member in members:
        count, shape = processes[member.place], shape_of(member.model)
        if shape is None and not member.model.startswith("tiny:"):
            raise KubernetesError(
                f"the size of {member.model} is not known here. Write --memory "
                f"{roles(config)[member.place]}=GIB, or "
                "fetch it first and name its folder's parent in RLAD_MODELS"
            )
        own = _GPU_PROCESS_GIB if member.gpus else _CPU_PROCESS_GIB
        weights = 0.0 if shape is None else _WEIGHT_BYTES[member.dtype] * shape.parameters
        counted = max((_host_bytes(need) for need in _of(config, gpu, member.place)), default=0.0)
        if member.place == "learner" and shape is not None:
            each = _CHECKPOINT_BYTES + (4 if config.policy_teacher is not None else 0)
            weights += each * shape.parameters * count / member.count
        working += count * (own * GIB + counted) + weights
    store = sum(experience_need(config).parts.values())
    if any(member.place == "rollout" for member in members) and (policy := shape_of(config.policy.model)):
        store += sum(transfer_need(config, policy).parts.values())
    gib = max(working + store, store / _STORE_SHARE, working / (1 - _STORE_SHARE)) / GIB
    step = 8 if any(member.gpus for member in members) else 2
    return math.ceil(gib / step) * step


def _of(config: RunConfig, gpu: Gpu, place: str) -> Iterator[Need]:
    """What a process of the place takes; a teacher's, in each of its services."""
    if place in ("learner", "rollout"):
        role = "learner" if place == "learner" else "rollout service"
        yield from (need for need in needs(config, gpu) if need.role == role)
        return
    teacher = config.served_teachers[place]
    if (shape := shape_of(teacher.model)) is not None:
        yield from teacher_need(config, place, teacher, shape, gpu)


def _host_bytes(need: Need) -> float:
    return sum(need.host.values()) + (0.0 if need.gpus else need.total)


def _services(config: RunConfig) -> Group:
    """What runs on CPUs beside the models: the verifier's processes, the collector, the policy's store."""
    checks = config.verifier.workers + 3  # which it adds while checks are slow
    stored = (experience_need(config).total + _image(config)) / GIB
    gib = 4 + checks * config.verifier.memory_limit_mib / 1024 + stored / _STORE_SHARE
    return Group("services", 1, 0, 2 + checks, math.ceil(gib / 2) * 2)


def _image(config: RunConfig) -> float:
    shape = shape_of(config.policy.model)
    return 0.0 if shape is None else sum(transfer_need(config, shape).parts.values())
