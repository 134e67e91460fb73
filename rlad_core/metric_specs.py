"""What a metric is: its form, and the stages, limits, labels and buckets that declarations are made of.

`rlad_core.metrics` has the declarations.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal["counter", "gauge", "histogram"]

StepStage = Literal[
    "rollout",
    "reference",  # a frozen policy; what it takes beside the teacher, no teacher adds
    "teacher",
    "verify",
    "assemble",
    "sleep",  # engines on the learner's GPU fall asleep before its work, and wake after it
    "old_logprobs",
    "update",
    "weight_sync",
    "checkpoint",
    "evaluation",
    "step",
]
#: In the order in which a step goes through them; `step` is the whole.
STAGES: Final[tuple[StepStage, ...]] = get_args(StepStage)

LimitKind = Literal[
    "sequences",  # of a request, or its responses or prompts
    "objects",
    "tokens",
    "hidden_states",  # bytes of those that are told
    "body",
    "repeated",  # bytes of prompts that answers tell again
    "query",
    "head",
    "disk",
    "queue",
    "quota",
    "time",
    "memory",
]
"""What a limit is of."""

#: The label `run` of processes that no single run owns, such as a teacher that many runs share.
SHARED: Final = "shared"

LABELS: Final = {
    "run": f"name of the run, `{SHARED}` for a service that no single run owns",
    "stage": "one of " + ", ".join(f"`{stage}`" for stage in STAGES) + "; also `idle` where a help says so",
    "service": "`teacher`, `rollout` or `verifier`; `proxy` of what Serve's proxy refuses before any of them",
    "kind": "the few cases that the metric's help names",
    "phase": "`queue`, `decode`, `engine` or `encode`; rollout's queue is its wait for weights, and vLLM "
    "tells its own as `request_queue_time_seconds`",
    "subset": "subset of the task, for instance `3_people`",
    "percentile": "`p50`, `p95` or `p99`",
    "role": "`learner`, `rollout service`, ..., as `rlad plan` calls them",
    "rank": "number of a replica in its deployment, 0, 1, ...; its successor gets the same",
}


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: full name without Ray's prefix.
        kind: counter (only rises), gauge (a current value) or histogram (a distribution).
        unit: what one unit of its value is, for people and panels.
        labels: every recorded value gives each of them.
        buckets: upper bounds of a histogram, rising; one process with other bounds would lose data.
        help: one sentence.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"rlad_[a-z0-9]+(_[a-z0-9]+)*", self.name):
            raise ValueError(f"{self.name!r} is not rlad_ followed by small letters, digits and single _")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"{self.name}: counters end in _total, and nothing else does")
        if unknown := set(self.labels) - set(LABELS):
            raise ValueError(f"{self.name}: labels {sorted(unknown)} are not described in LABELS")
        if (self.kind == "histogram") != bool(self.buckets) or list(self.buckets) != sorted(
            set(self.buckets)
        ):
            raise ValueError(f"{self.name}: a histogram has rising buckets, and nothing else has any")


def _decades(mantissas: Sequence[float], first: int, last: int) -> tuple[float, ...]:
    """mantissa * 10**exponent for the exponents first..last."""
    return tuple(float(f"{m}e{exponent}") for exponent in range(first, last + 1) for m in mantissas)


# Neighbours are at most a factor 1.7 apart, and so is a quantile read from them from the true one. A
# quantile in the first or last bucket is none at all, so they begin below what there is and end above it;
# counts, which are whole, begin at a half.
DURATION_BUCKETS: Final = (*_decades((1, 1.5, 2, 3, 5, 7), -5, 2), 1000.0, 1500.0, 2000.0, 2700.0, 3600.0)
COUNT_BUCKETS: Final = (0.5, *(2**n + 0.5 for n in range(14)))
TOKEN_BUCKETS: Final = (0.5, *_decades((1, 1.5, 2, 3, 5, 7), 0, 6))

PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
RECENT_STEPS: Final = 20
"""Steps that percentiles of whole steps look back on."""
