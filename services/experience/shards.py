"""What a learner rank gets for a step: its shard, and what is known of the batch."""

from dataclasses import dataclass, field

import pyarrow as pa
import ray

from rlad_core.assembly import ShardPlan
from rlad_core.timeline import BatchTimes
from services.experience.visits import Visit


@dataclass(frozen=True)
class StepFacts:
    """What is known of a step's batch before anybody trains on it.

    Attributes:
        numbers: by the names of metrics.jsonl.
        trained_groups, dropped_groups: ids, for the record that no group is trained on twice.
        visits: what became of each, for the run's ledger.
        stale_masked: tokens of trained groups that are too old to count, by the group's id.
        times: when its responses were there, and what was said of them; None: it has none of its own.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    trained_groups: list[str] = field(default_factory=list)
    dropped_groups: list[str] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    stale_masked: dict[str, int] = field(default_factory=dict)
    times: BatchTimes | None = None


@dataclass(frozen=True)
class Shard:
    """One rank's part of a step; `table` is a reference, read from the object store without copying.

    end_tokens: of policy and teachers, which are one outcome.
    early_ends: of stages that a rule ended, see `RunConfig.position`.
    whole: the step's table with all ranks' rows, where the run keeps it.
    """

    step: int
    table: "ray.ObjectRef[pa.Table]"
    plan: ShardPlan
    facts: StepFacts
    end_tokens: tuple[int, ...] = ()
    early_ends: dict[int, int] = field(default_factory=dict)
    whole: "ray.ObjectRef[pa.Table] | None" = None
