"""What of a run does not fit, on a GPU or in an engine's KV cache.

Roles that share a GPU take it at the same time, and what they take is added. Where one sleeps (rollout.sleep,
teacher.sleep) the larger counts of two times: engines at work, beside what lasts of the learner; the learner
at work, beside engines that do not sleep.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rlad_core.config import RunConfig
from rlad_core.sections.problems import Problem
from rlad_core.sizing.gpus import Gpu
from rlad_core.sizing.memory import experience_need
from rlad_core.sizing.need import GIB, RESERVE, Need


def store_problems(config: RunConfig) -> Iterator[Problem]:
    """An embedded cluster's object store that a step would not fit into; another's decides for itself."""
    need, room = experience_need(config), config.cluster.object_store_gib * GIB
    what = "a step, and of those sampled ahead of it," if config.rollout.max_staleness else "a step"
    if need.total > room and not config.cluster.is_joined:
        yield Problem(
            need.field,
            config.cluster.object_store_gib,
            f"the experience of {what} takes {need.total / GIB:.1f} GiB if all responses are as long as they "
            f"may be. Write {need.total / GIB + 0.5:.0f} or more",
        )


def problems(found: list[Need], gpu: Gpu) -> Iterator[Problem]:
    """What does not fit: a process alone, or those that share a GPU together."""
    sharing = [need for need in found if 0 < need.gpus < 1]
    for need in found:
        room = gpu.memory - RESERVE
        if need.gpus and need.total > room:
            yield Problem(need.field, f"{need.total / GIB:.0f} GiB", _advice(need, gpu))
        if need.parts.get("KV cache", math.inf) < sum(need.least.values()):
            yield Problem(need.field, need.written, _no_cache(need, gpu))
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


def _no_cache(need: Need, gpu: Gpu) -> str:
    """vLLM does not start where its cache is smaller than the longest sequence."""
    cache, least = need.parts["KV cache"], sum(need.least.values())
    taken = ", ".join(f"{name} {size / GIB:.2g} GiB" for name, size in need.least.items() if size)
    if not need.gpus:
        return f"is too small for {taken}. Write {least / GIB + 0.1:.1f} or more"
    left = f"{cache / GIB:.2g} GiB" if cache else "no room"
    more = ""
    if cache > least - need.least["an engine step"]:
        more = f", or {need.ways['an engine step']}"
    return (
        f"leaves {left} for a KV cache on a {gpu.name}, which wants {least / GIB:.2g} at least ({taken}): "
        f"{need.ways['weights']}, or this{more}"
    )


def _advice(need: Need, gpu: Gpu) -> str:
    largest = max(need.parts, key=need.parts.__getitem__)
    more = need.ways.get(largest, "lower it")
    return (
        f"is what the {need.role} of {need.model} takes, and a {gpu.name} has {gpu.memory / GIB:.0f} GiB; "
        f"most is {largest} ({need.parts[largest] / GIB:.0f} GiB): {more}"
    )
