"""The learning rate of a step: warm-up, then constant, linear or cosine, anew in each stage."""

import math
from collections.abc import Mapping

from rlad_core.config import RunConfig


def learning_rate(config: RunConfig, step: int, early_ends: Mapping[int, int] | None = None) -> float:
    """Of a step of the run.

    Args:
        early_ends: of stages, see `RunConfig.position`.
    """
    learner, place = config.learner, config.position(step, early_ends)
    peak, least = config.learning_rate(step, early_ends), learner.min_lr
    if place.step < learner.warmup_steps:
        return peak * (place.step + 1) / learner.warmup_steps
    done = (place.step - learner.warmup_steps) / max(1, place.steps - learner.warmup_steps)
    if learner.schedule == "linear":
        return least + (peak - least) * (1 - done)
    if learner.schedule == "cosine":
        return least + (peak - least) * 0.5 * (1 + math.cos(math.pi * done))
    return peak
