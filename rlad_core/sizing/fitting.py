"""What of a run does not fit.

Roles that share a GPU take it at the same time, and what they take is added. Where one sleeps (rollout.sleep,
teacher.sleep) the larger counts of two times: engines at work, beside what lasts of the learner; the learner
at work, beside engines that do not sleep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlad_core.config import RunConfig
from rlad_core.sections.problems import Problem
from rlad_core.sizing.gpus import Gpu
from rlad_core.sizing.memory import experience_need
from rlad_core.sizing.need import GIB, RESERVE, Need


def store_problems(config: RunConfig) -> Iterator[Problem]:
    """An embedded cluster's object store that a step would not fit into; another's decides for itself."""
    need, room = experience_need(config), config.cluster.object_store_gib * GIB
    if need.total > room and not config.cluster.is_joined:
        yield Problem(
            need.field,
            config.cluster.object_store_gib,
            f"the experience of a step takes {need.total / GIB:.1f} GiB if all responses are as long as they "
            f"may be. Write {need.total / GIB + 0.5:.0f} or more",
        )


def problems(found: list[Need], gpu: Gpu) -> Iterator[Problem]:
    """What does not fit: a process alone, or those that share a GPU together."""
    sharing = [need for need in found if 0 < need.gpus < 1]
    for need in found:
        room = gpu.memory - RESERVE
        if need.gpus and need.total > room:
            yield Problem(need.field, f"{need.total / GIB:.0f} GiB", _advice(need, gpu))
        if need.role != "learner" and need.gpus and need.parts.get("KV cache", 1.0) <= 0:
            yield Problem(
                need.field,
                need.model,
                f"leaves no room for a KV cache on a {gpu.name}: {need.ways['weights']}, or this",
            )
    if len(sharing) > 1 and (together := _together(sharing)) > gpu.memory - RESERVE:
        shared = ", ".join(f"{need.role} {need.total / GIB:.0f} GiB" for need in sharing)
        yield Problem(
            sharing[0].field,
            f"{together / GIB:.0f} GiB",
            f"those that share a {gpu.name} of {gpu.memory / GIB:.0f} GiB want more than it has: {shared}. "
            f"Lower {', '.join(need.field for need in sharing)}, let engines sleep (sleep: true), or give "
            "each a GPU of its own",
        )


def _together(sharing: Sequence[Need]) -> float:
    """Bytes that roles take of a GPU that they share, at the time when it is most."""
    if not any(need.sleeps for need in sharing):
        return sum(need.total for need in sharing)
    learner = [need for need in sharing if need.role == "learner"]
    engines = [need for need in sharing if need.role != "learner"]
    sampling = sum(need.total for need in engines) + sum(need.at_rest for need in learner)
    awake = sum(need.total for need in engines if not need.sleeps)
    return max(sampling, awake + sum(need.total for need in learner))


def _advice(need: Need, gpu: Gpu) -> str:
    largest = max(need.parts, key=need.parts.__getitem__)
    more = need.ways.get(largest, "lower it")
    return (
        f"is what the {need.role} of {need.model} takes, and a {gpu.name} has {gpu.memory / GIB:.0f} GiB; "
        f"most is {largest} ({need.parts[largest] / GIB:.0f} GiB): {more}"
    )
