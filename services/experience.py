"""From prompts to experience: one table per learner step, in shards of equal token load.

                                    +--> teacher --+
    draw slots --> rollout (group) -+              +--> finished groups --> join, advantages --> shards
         ^                          +--> verifier -+         |                                     |
         |                                                   v                                     v
         +----- slots freed <------------------- dropped (uninformative)            next_shard(step, rank)
         +----- slots freed <---------------------------------------------------------- trained(step)

Who waits for whom:

- `_collect` (one task per step) waits for its groups; the services unblock each, within their time limits.
- a group's scoring and judging wait for its sampling alone: other groups are still being generated meanwhile.
- `next_shard` waits for `_collect` of its step; the first rank to ask starts it, the others share it.
- `_collect` of the next step waits for free slots, which `trained` frees once the new weights are out.
  Strictly on-policy there are ``prompts_per_step`` slots, so nothing is generated before that. More slots (a
  staleness above zero) would let the next step's groups start earlier; nothing else here would change.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from rlad_core import objectives, schema
from rlad_core.advantage import group_relative_advantages
from rlad_core.assembly import ShardPlan, plan_shards
from rlad_core.config import SFT, Objective, RunConfig
from rlad_core.evaluation import EvaluationRow, evaluation_table
from rlad_core.prompts import PromptStream
from rlad_core.slots import Frontier, SlotLedger
from rlad_core.timeline import StageSpan
from services import telemetry
from services.app import RunServices
from services.concurrency import all_of
from services.groups import Group, GroupWorker, accepted_sequences, describe, join_groups
from services.loading import loading
from services.rollout_settings import SamplingSettings
from services.teacher_probe import probe
from services.teachers import Teacher
from services.telemetry import span
from services.tokenizer import load_tokenizer


@dataclass(frozen=True)
class StepFacts:
    """What is known of a step's batch before anybody trains on it.

    Attributes:
        numbers: by the names of metrics.jsonl.
        trained_groups, dropped_groups: ids, for the record that no group is trained on twice.
        spans: of the stages up to assemble.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    trained_groups: list[str] = field(default_factory=list)
    dropped_groups: list[str] = field(default_factory=list)
    spans: list[StageSpan] = field(default_factory=list)


@dataclass(frozen=True)
class Shard:
    """One rank's part of a step; `table` is a reference, read from the object store without copying."""

    step: int
    table: "ray.ObjectRef[pa.Table]"
    plan: ShardPlan
    facts: StepFacts


@dataclass
class _Batch:
    """A step that was collected and not yet trained on."""

    positions: list[int]
    shards: list[Shard]
    taken: set[int] = field(default_factory=set)
    """Ranks that have theirs."""


class ExperienceCollector:
    """Actor that owns the stream of prompts and the slots.

    Args:
        config: the run.
        model_folder: where the policy's tokenizer is.
        services: how to reach rollout, teacher and verifier.
        run_dir: the run's folder, for its log; None where it is only asked to evaluate.
    """

    def __init__(
        self,
        config: RunConfig,
        model_folder: str,
        services: RunServices,
        *,
        run_dir: str | None = None,
    ) -> None:
        telemetry.name_run(config.name)
        if run_dir is not None:
            telemetry.configure_logging(Path(run_dir), level=config.telemetry.log_level)
        self._config = config
        self._model_folder = model_folder
        self._services = services
        with loading():
            tokenizer = load_tokenizer(model_folder)
        self._stream = PromptStream(config, tokenizer, trains=run_dir is not None)
        self._ledger = SlotLedger(config.slots)
        self._collecting: dict[int, asyncio.Task[_Batch]] = {}
        self._spans = telemetry.SpanCollector()
        self._teachers: dict[str, Teacher] = {}
        self._stop = False

    async def begin(self, frontier: dict[str, Any] | None) -> None:
        """Continue a run where `frontier` told; nothing is collected before."""
        if frontier is not None:
            saved = Frontier(frontier["next_position"], tuple(frontier["alive"]))
            self._ledger = SlotLedger(self._config.slots, saved)

    async def probe_teachers(self, tokens: Mapping[str, str]) -> None:
        """Reach every teacher and compare it with the policy, see `services.teacher_probe`.

        Args:
            tokens: see `services.app.teacher_tokens`. Not among the actor's arguments, which Ray keeps in its
                control store, and so perhaps in Redis and on its disk.
        """
        length = self._config.policy.max_length
        for place, settings in self._config.teacher_sections.items():
            teacher = None
            if self._config.scores_with_teacher:
                # Once, on this actor's event loop: a remote teacher's connections are kept.
                teacher = self._teachers[place] = self._services.teacher(place, tokens.get(place))
            await probe(place, settings, teacher, self._model_folder, length)

    async def next_shard(self, step: int, rank: int) -> Shard | None:
        """Rank `rank`'s part of step `step`; None once the run is to stop.

        Asking again gives the same shard.
        """
        if step not in self._collecting:
            if self._stop:
                return None
            self._collecting[step] = asyncio.create_task(self._collect(step))
        batch = await self._collecting[step]
        if rank not in batch.taken:
            batch.taken.add(rank)
            telemetry.waiting("update", -len(batch.shards[rank].plan.rows))
        return batch.shards[rank]

    async def trained(self, step: int) -> None:
        """The step was trained on and the new weights are out: its slots are free."""
        batch = await self._collecting.pop(step)
        self._ledger.release(batch.positions)

    async def frontier(self) -> dict[str, Any]:
        """What `__init__` takes to continue from here."""
        return asdict(self._ledger.frontier)

    async def stop(self) -> None:
        """Give out no further step; a step that is being collected is still finished."""
        self._stop = True

    async def evaluate(self, version: int) -> list[EvaluationRow]:
        """Accuracy of policy version `version` on the held-out puzzles, a row per subset."""
        settings, prompts = self._config.evaluation, self._stream.held_out()
        table = self._stream.table(prompts)
        sampling = SamplingSettings(
            group_size=settings.samples,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=self._config.evaluation_response_length,
            seed=self._config.seed,
            training=False,
        )
        worker = self._worker(None)
        with span("evaluation", items=len(prompts) * settings.samples):
            groups = _in_order(table.append_column("group_id", table.column("prompt_id")))
            # In parts: a whole evaluation would be more than one request may have, and one replica's work.
            size = max(1, self._config.rollout.max_num_seqs // (4 * settings.samples))

            async def measure(first: int) -> tuple[pa.Table, pa.Table]:
                rollouts = await worker.sample(groups.slice(first, size), sampling, version)
                return rollouts, await worker.judge(rollouts, table)

            parts = await all_of(
                (measure(first) for first in range(0, len(groups), size)),
                # Twice what the engines work on at a time.
                at_most=8 * self._config.rollout.num_replicas,
            )
            rollouts, rewards = (pa.concat_tables(tables) for tables in zip(*parts, strict=True))
        subset_of = {prompt.prompt_id: prompt.subset for prompt in prompts}
        ids = rollouts.column("prompt_id").to_pylist()
        correct = dict(zip(rewards["sequence_id"].to_pylist(), rewards["correct"].to_pylist(), strict=True))
        rows = evaluation_table(
            [subset_of[prompt_id] for prompt_id in ids],
            ids,
            [correct[sequence] for sequence in schema.sequence_ids(rollouts).to_pylist()],
            np.asarray(rollouts["finish_reason"].to_pylist()) == "length",
        )
        self._spans.take()  # an evaluation belongs to no step's batch
        return rows

    async def _collect(self, step: int) -> _Batch:
        objective = self._config.position(step).stage.objective
        count = self._config.rollout.prompts_per_step
        if isinstance(objective, SFT) and objective.source == "trace":
            return self._worked_solutions(step, self._ledger.draw(count))
        kept: list[Group] = []
        dropped: list[Group] = []
        for _ in range(1 + self._config.rollout.refill_rounds):
            for group in await self._work_on(step, self._ledger.draw(count - len(kept))):
                (kept if self._teaches(group, objective) else dropped).append(group)
            # Nothing will be trained on what was dropped: its slots are free for the refill.
            self._ledger.release([g.position for g in dropped if g.position in self._ledger.alive])
            if len(kept) == count:
                break
        telemetry.waiting("assemble", -sum(len(group.rollouts) for group in (*kept, *dropped)))
        with span("assemble", items=sum(len(group.rollouts) for group in kept)):
            if isinstance(objective, SFT):
                table, groups = accepted_sequences(kept)
            else:
                table, groups = join_groups(
                    kept, self._stream.table(self._stream.prompts([g.position for g in kept]))
                )
            plans = self._plan(step, table, groups)
        facts = StepFacts(
            numbers=describe(kept, dropped, None if isinstance(objective, SFT) else step),
            trained_groups=[group.group_id for group in kept],
            dropped_groups=[group.group_id for group in dropped],
        )
        return self._hand_out(step, [group.position for group in kept], table, plans, facts)

    def _worked_solutions(self, step: int, positions: list[int]) -> _Batch:
        """A batch of the task's own demonstrations; no service is asked."""
        with span("assemble", items=len(positions)):
            prompts = self._stream.prompts(positions)
            ids = [self._stream.group_id(p, prompt) for p, prompt in zip(positions, prompts, strict=True)]
            table = self._stream.demonstrations(prompts, ids)
            plans = self._plan(step, table, ids)
            for state in ("in_flight", "finished", "taken"):
                for position in positions:
                    self._ledger.advance(position, state)
        return self._hand_out(step, positions, table, plans, StepFacts(trained_groups=ids))

    def _plan(self, step: int, table: pa.Table, groups: Sequence[str]) -> list[ShardPlan]:
        objective = objectives.build(self._config.position(step).stage.objective)
        return plan_shards(
            table,
            groups=groups,
            mini_batches=self._config.learner.updates_per_batch,
            ranks=self._config.learner.workers,
            token_weights=objective.token_weights,
        )

    def _hand_out(
        self, step: int, positions: list[int], table: pa.Table, plans: list[ShardPlan], facts: StepFacts
    ) -> _Batch:
        facts.spans.extend(self._spans.take())
        facts.numbers["trained_tokens"] = int(schema.lengths(table.column("response_token_ids")).sum())
        telemetry.waiting("update", len(table))
        shards = [Shard(step, ray.put(table.take(plan.rows)), plan, facts) for plan in plans]
        return _Batch(positions, shards)

    def _teaches(self, group: Group, objective: Objective) -> bool:
        """Whether there is something to learn from the group under this objective."""
        if isinstance(objective, SFT):
            return bool(group.rewards.column("correct").to_numpy().any())
        if not (objective.uses_group_advantage and self._config.rollout.drop_uninformative):
            return True
        rewards = group.rewards.column("reward").to_numpy()
        return bool(group_relative_advantages(rewards, [group.group_id] * len(rewards)).informative.any())

    async def _work_on(self, step: int, positions: list[int]) -> list[Group]:
        config, stage = self._config, self._config.position(step).stage
        prompts = self._stream.prompts(positions)
        table = self._stream.table(prompts)
        group_ids = [self._stream.group_id(p, prompt) for p, prompt in zip(positions, prompts, strict=True)]
        groups = _in_order(table.append_column("group_id", pa.array(group_ids)))
        demonstrates = isinstance(stage.objective, SFT)
        sampling = SamplingSettings(
            group_size=1 if demonstrates else config.rollout.group_size,
            temperature=config.rollout.temperature,
            max_tokens=config.rollout.max_response_length,
            seed=config.seed,
        )
        scores = stage.objective.needs_teacher and not demonstrates
        workers = {
            task: self._worker(config.teacher_of(task) if scores else None, demonstrates=demonstrates)
            for task in {prompt.task for prompt in prompts}
        }

        async def work(row: int, position: int) -> Group:
            worker = workers[prompts[row].task]
            self._ledger.advance(position, "in_flight")
            version = 0 if demonstrates else step
            group = await worker.work(position, groups.slice(row, 1), table, sampling, version)
            self._ledger.advance(position, "finished")
            self._ledger.advance(position, "taken")
            telemetry.waiting("assemble", len(group.rollouts))
            return group

        return await all_of(work(row, position) for row, position in enumerate(positions))

    def _worker(self, teacher: str | None, *, demonstrates: bool = False) -> GroupWorker:
        """`teacher`: its place in the recipe, or None where none is asked."""
        return GroupWorker(
            rollout=self._services.demonstrator() if demonstrates else self._services.rollout(),
            verifier=self._services.verifier(),
            teacher=None if teacher is None else self._teachers[teacher],
            timeout_s=self._config.rollout.timeout_s,
        )


def _in_order(groups: pa.Table) -> pa.Table:
    """Columns as the rollout service reads them."""
    return groups.select(["group_id", "prompt_id", "prompt_token_ids"])
