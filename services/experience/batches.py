"""A step's batch: its groups from the pool, looked at, joined, and cut into shards of equal cost."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray

from rlad_core import schema
from rlad_core.assembly import ShardPlan, plan_shards
from rlad_core.config import RunConfig
from rlad_core.group_rule import GroupRule
from rlad_core.metric_specs import StepStage
from rlad_core.objectives import Objective
from rlad_core.overlong import is_cut_off
from rlad_core.prompt_stream import PromptStream
from rlad_core.recorded import labelled
from rlad_core.slots import SlotLedger
from rlad_core.stage_rules import StageRules
from rlad_core.staleness import trained_tokens
from rlad_core.tasks import Prompt
from rlad_core.timeline import BatchTimes
from services.base import telemetry, tracing
from services.base.telemetry import span
from services.experience.ends import EndTokens
from services.experience.groups import Group
from services.experience.joining import accepted, accepted_sequences, join_groups
from services.experience.pool import GroupPool
from services.experience.shards import Shard, StepFacts
from services.experience.signals import Looked, Signals
from services.experience.step_numbers import stale_tokens, step_numbers
from services.experience.visits import solved, visits_of


@dataclass
class Batch:
    """A step that was collected and not yet trained on."""

    positions: list[int]
    dropped: list[int]
    shards: list[Shard]
    taken: set[int] = field(default_factory=set)
    """Ranks that have theirs."""


class StepBatches:
    """Of one run.

    Args:
        stream: its prompts.
        ends: its end tokens.
        signals: looks at the teachers' scores.
        stages: which objective a step has.
        ledger: states of the groups.
        pool: that works on them.
        pair_cost: see `rlad_core.assembly.plan_shards`.
    """

    def __init__(
        self,
        config: RunConfig,
        stream: PromptStream,
        ends: EndTokens,
        signals: Signals,
        stages: StageRules,
        ledger: SlotLedger,
        pool: GroupPool[Group],
        pair_cost: float,
    ) -> None:
        self._config = config
        self._stream = stream
        self._ends = ends
        self._signals = signals
        self._stages = stages
        self._ledger = ledger
        self._pool = pool
        self._pair_cost = pair_cost

    async def collect(self, step: int) -> Batch:
        """Take the groups of a step from the pool and put its batch together.

        Raises:
            SignalError: a teacher's scores are not what they should be; or what a service raised.
        """
        with tracing.of_step(self._config.name, step):
            return await self._collect_groups(step)

    async def _collect_groups(self, step: int) -> Batch:
        objective, last = self._stages.objective(step), self._stages.last(step)
        count = self._config.rollout.prompts_per_step
        if objective.responses_of == "task":
            return self._worked_solutions(step, self._ledger.draw(count))
        kept: list[Group] = []
        dropped: list[Group] = []
        for _ in range(1 + self._config.rollout.refill_rounds):
            useless: list[Group] = []
            for group in await self._pool.take(step, count - len(kept), last):
                (kept if self._teaches(group, objective) else useless).append(group)
            self._pool.drop([group.position for group in useless])
            dropped += useless
            if len(kept) == count:
                break
        telemetry.waiting("assemble", -sum(len(group.rollouts) for group in (*kept, *dropped)))
        looked = await self._look(step, kept) if objective.trains_on_rollouts else Looked()
        with span("assemble", items=sum(len(group.rollouts) for group in kept)):
            if objective.trains_on_rollouts:
                prompts = self._stream.prompts([g.position for g in kept])
                table, groups = join_groups(
                    kept,
                    self._stream.table(prompts),
                    scale_advantages=objective.scales_advantage,
                    teacher_prompts=self._read_by_learners_teacher(prompts, objective),
                )
            else:
                table, groups = accepted_sequences(kept)
            plans = self._plan(step, table, groups)
            tracing.note(
                groups=[group.group_id for group in kept], dropped=[group.group_id for group in dropped]
            )
        counted = self._counted(step) if objective.trains_on_rollouts else None
        stale = stale_tokens(kept, counted) if counted is not None else {}
        facts = StepFacts(
            numbers=looked.numbers | step_numbers(kept, dropped, counted, masks=self._config.rollout.masks),
            trained_groups=[group.group_id for group in kept],
            dropped_groups=[group.group_id for group in dropped],
            visits=visits_of(
                kept,
                dropped,
                self._stream,
                "policy" if objective.trains_on_rollouts else "teacher",
                stale,
            ),
            stale_masked=stale,
            times=_times_of([*kept, *dropped], looked),
        )
        positions = [group.position for group in kept]
        left_out = [group.position for group in dropped]
        return self._hand_out(step, positions, left_out, table, groups, plans, facts)

    async def _look(self, step: int, kept: Sequence[Group]) -> Looked:
        """Whether the teachers' scores may be trained on, see `Signals.check`."""
        objective = self._stages.objective(step)
        return await self._signals.check(step, kept, lambda place: self._ends.asked_of(place, objective))

    def _read_by_learners_teacher(
        self, prompts: Sequence[Prompt], objective: Objective
    ) -> dict[str, Sequence[int]] | None:
        """What a privileged teacher that the learner keeps reads in a prompt's place; None: there is none."""
        teacher = self._config.policy_teacher
        if teacher is None or teacher.prefix is None or not objective.scores_with_teacher:
            return None
        shares = {prompt.prompt_id: self._stream.taught(prompt) for prompt in prompts}
        return {name: ids for name, [share] in shares.items() if (ids := share.prompt_token_ids) is not None}

    def _worked_solutions(self, step: int, positions: list[int]) -> Batch:
        """A batch of the task's own demonstrations; no service is asked."""
        with span("assemble", items=len(positions)):
            prompts = self._stream.prompts(positions)
            ids = [self._stream.group_id(p, prompt) for p, prompt in zip(positions, prompts, strict=True)]
            epochs = [position // self._stream.epoch_prompts for position in positions]
            table = self._stream.demonstrations(prompts, ids, epochs)
            plans = self._plan(step, table, ids)
            for position in positions:
                self._ledger.advance(position, "taken")
        visits = solved(positions, ids, prompts, self._stream.epoch_prompts)
        facts = StepFacts(trained_groups=ids, visits=visits)
        return self._hand_out(step, positions, [], table, ids, plans, facts)

    def _plan(self, step: int, table: pa.Table, groups: Sequence[str]) -> list[ShardPlan]:
        return plan_shards(
            table,
            groups=groups,
            mini_batches=self._config.learner.updates_per_batch,
            ranks=self._config.learner.workers,
            token_weights=self._stages.objective(step).token_weights,
            pair_cost=self._pair_cost,
            counted=self._whole(table),
            counted_versions=self._counted(step),
        )

    def _whole(self, table: pa.Table) -> npt.NDArray[np.bool_] | None:
        """Responses that count, where those that were cut off do not; None: all do."""
        masks = self._config.rollout.masks and "finish_reason" in table.column_names
        return ~is_cut_off(table) if masks else None

    def _counted(self, step: int) -> range:
        """Policy versions whose tokens count in a step."""
        return range(max(step - self._config.rollout.max_staleness, 0), step + 1)

    def _hand_out(
        self,
        step: int,
        positions: list[int],
        dropped: list[int],
        table: pa.Table,
        groups: Sequence[str],
        plans: list[ShardPlan],
        facts: StepFacts,
    ) -> Batch:
        facts.numbers["trained_tokens"] = trained_tokens(table, self._counted(step), self._whole(table))
        telemetry.waiting("update", len(table))
        ends = self._ends.outcome
        keeps = self._config.telemetry.keep_experience == "all"
        whole = ray.put(labelled(table, ends, self._counted(step), groups)) if keeps else None
        shards = []
        for plan in plans:
            rows = ray.put(schema.take_rows(table, plan.rows).combine_chunks())
            shards.append(Shard(step, rows, plan, facts, ends, dict(self._stages.early_ends), whole))
        return Batch(positions, dropped, shards)

    def _teaches(self, group: Group, objective: Objective) -> bool:
        """Whether there is something to learn from the group under this objective."""
        if not objective.trains_on_rollouts:
            return bool(accepted(group).any())
        rewards, correct = (group.rewards.column(name).to_numpy() for name in ("reward", "correct"))
        rule = GroupRule.of(objective, drop_uninformative=self._config.rollout.drop_uninformative)
        return bool(rule.taught(rewards, correct, [group.group_id] * len(rewards)).any())


def _times_of(groups: Sequence[Group], looked: Looked) -> BatchTimes:
    """The times of a batch of these groups, which were looked at when all of them were scored."""
    sampled = max(group.sampled for group in groups)
    scored: dict[StepStage, float] = {}
    for group in groups:
        for stage, moment in group.scored.items():
            scored[stage] = max(moment, scored.get(stage, sampled))
    missing = defaultdict(list, {stage: [(sampled, moment)] for stage, moment in scored.items()})
    for stage, began, ended in looked.times:
        missing[stage].append((began, ended))
    judged = max(*(group.judged for group in groups), scored.get("reference", sampled))
    return BatchTimes(sampled, judged, dict(missing))
