"""What a run will need, before it is started: bytes of each process, and seconds of each stage of a step.

In: a recipe and a GPU. Out: a `Need` of each role, a `StageTime` of each stage. Reads config.json where a
model is here, else a table of shapes; starts nothing and imports no torch. Called by: ``rlad plan``, and by
whoever balances batches by their cost.

    shapes   how large a model is
    gpus     what a GPU holds, computes and reads
    need     what a process takes
    learner  bytes of a rank of the learner
    memory   bytes of a process of each role
    fitting  what does not fit, alone or beside others on a GPU
    times    seconds of a step's stages, and replicas that would balance them
"""

from rlad_core.sizing.fitting import problems, store_problems
from rlad_core.sizing.gpus import GPUS, Gpu
from rlad_core.sizing.memory import needs
from rlad_core.sizing.need import GIB, Need
from rlad_core.sizing.shapes import Shape, pair_cost_of, shape_of
from rlad_core.sizing.times import (
    StageTime,
    balanced,
    evaluation_seconds,
    step_seconds,
    times,
    works_ahead,
)

__all__ = [
    "GIB",
    "GPUS",
    "Gpu",
    "Need",
    "Shape",
    "StageTime",
    "balanced",
    "evaluation_seconds",
    "needs",
    "pair_cost_of",
    "problems",
    "shape_of",
    "step_seconds",
    "store_problems",
    "times",
    "works_ahead",
]
