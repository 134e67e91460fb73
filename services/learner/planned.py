"""What the plan said of a run's memory and devices, and what the learner took, to be compared."""

import resource

import torch

from rlad_core import metrics
from rlad_core.config import RunConfig
from rlad_core.sizing import Gpu, needs
from services.base import telemetry


def record_planned(config: RunConfig) -> None:
    """Record what `rlad plan` counts for one process of each role, on a GPU like this process's."""
    gpu = None
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        gpu = Gpu("here", memory, flops={}, bandwidth=1.0)  # no times are asked
    planned: dict[str, float] = {}
    for need in needs(config, gpu):
        size = need.total if need.gpus else sum(need.host.values()) + need.total
        planned[need.role] = max(size, planned.get(need.role, 0.0))
    for role, size in planned.items():
        telemetry.gauge(metrics.RUN_PLANNED_MEMORY, size, role=role)


def record_memory() -> None:
    """Record the most that this process has held, as the plan counts it: on its GPU, else on the host."""
    if torch.cuda.is_available():
        held = torch.cuda.max_memory_reserved()
    else:
        held = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux tells KiB
    telemetry.gauge(metrics.RUN_LEARNER_MEMORY, held)
