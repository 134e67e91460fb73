"""From prompts to experience: one table per learner step, in shards of equal cost.

    pool.py -- begins --> rollout -------+--> teacher --+--> finished --> join, advantages --> shards
      ^  standing_pool    rollout/       |    teacher/  |    groups       groups.py            assembly.py
      |  work.py          service.py     +--> verifier--+    groups.py    schema/joining.py      |
      |                                       verifier/                                          v
      |                                       service.py                           next_shard(step, rank)
      +-- slots freed <-- dropped (uninformative)                                  learner/loop.py
      +-- slots freed <-- published(version) <-- new weights are out  <-- trained(step)
                                                 weights/store.py         its groups are consumed

Who waits for whom:

- `_collect` (one task per step) waits for its groups (`GroupPool.take`); the services unblock each, within
  their time limits.
- a group's scoring and judging wait for its sampling alone: other groups are still being generated meanwhile.
- `next_shard` waits for `_collect` of its step; the first rank to ask starts it, the others share it.
- strictly on-policy nothing is generated for the next step before `published`. With a staleness above zero
  the pool goes on meanwhile, and the next step is collected as soon as this one is handed out.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from rlad_core import schema
from rlad_core.advantage import group_relative_advantages
from rlad_core.assembly import ShardPlan, plan_shards
from rlad_core.config import RemoteTeacher, RunConfig, ServeTeacher, resolve_model
from rlad_core.config.run import REFERENCE
from rlad_core.language_model.end_tokens import end_tokens
from rlad_core.objectives import Objective
from rlad_core.overlong import is_cut_off
from rlad_core.prompt_stream import PromptStream, Selection
from rlad_core.proxies import through
from rlad_core.recorded import labelled
from rlad_core.sections import code
from rlad_core.sizing import pair_cost_of
from rlad_core.slots import Frontier, SlotLedger
from rlad_core.stage_rules import StageRules
from rlad_core.staleness import young_tokens
from rlad_core.standing_pool import StandingPool
from rlad_core.timeline import StageSpan
from services.base import telemetry, tracing
from services.base.loading import loading
from services.base.telemetry import span
from services.base.tokenizer import load_tokenizer
from services.clients.handles import reach_teacher
from services.clients.teachers import Compared, MismatchError, PolicyFacts, Teacher, compare_model
from services.experience.ends import EndTokens
from services.experience.groups import Group, accepted_sequences, join_groups, stale_tokens, step_numbers
from services.experience.pool import GroupPool
from services.experience.shards import Shard, StepFacts
from services.experience.signals import Signals
from services.experience.visits import solved, visits_of
from services.experience.work import GroupWork
from services.serve.cluster import NAMESPACE

_PROBED_PROMPTS = 4


@dataclass
class _Batch:
    """A step that was collected and not yet trained on."""

    positions: list[int]
    dropped: list[int]
    shards: list[Shard]
    taken: set[int] = field(default_factory=set)
    """Ranks that have theirs."""


class ExperienceCollector:
    """Actor that owns the stream of prompts and the slots.

    Args:
        config: the run.
        model_folder: where the policy's tokenizer is.
        run_dir: the run's folder, for its log.
    """

    def __init__(self, config: RunConfig, model_folder: str, run_dir: str) -> None:
        telemetry.name_run(config.name)
        telemetry.configure_logging(Path(run_dir), level=config.telemetry.log_level)
        if config.telemetry.traces:
            tracing.begin(config.name, Path(run_dir) / "traces")
        self._config = config
        with loading():
            self._tokenizer = load_tokenizer(model_folder)
        self._pair_cost = pair_cost_of(model_folder)
        self._stream: PromptStream
        stop = config.policy.stop_token_ids
        self._ends = EndTokens(stop or end_tokens(self._tokenizer, model_folder), said=stop is not None)
        self._some_prompts: tuple[str, ...] = ()
        self._ledger: SlotLedger
        self._pool: GroupPool[Group]
        self._collecting: dict[int, asyncio.Task[_Batch]] = {}
        self._asked: set[int] = set()
        self._unpublished: dict[int, list[int]] = {}
        """Positions of the steps that were trained, and whose weights are not out."""
        self._spans = telemetry.SpanCollector()
        self._stages = StageRules(config)
        self._undecided: int | None = None
        """A version that is out while it is not decided whether the stage goes on."""
        self._teachers: dict[str, Teacher] = {}
        self._signals = Signals(config.seed, self._say)
        self._stop = False

    async def read_prompts(self, selection: Selection) -> None:
        """Have the tasks make their prompts; nothing else is asked before.

        Args:
            selection: what is left out of them.

        Raises:
            ValueError: a task cannot give as many; or what a user's own task raises, see `code.fault`.
        """
        try:
            self._stream = await asyncio.to_thread(PromptStream, self._config, self._tokenizer, selection)
            some = self._stream.table(self._stream.prompts(range(_PROBED_PROMPTS)))
            self._some_prompts = tuple(some.column("prompt").to_pylist())
        except Exception as error:
            raise ValueError(f"the prompts cannot be made: {code.fault(error)}") from error

    async def begin(self, frontier: dict[str, Any] | None, step: int = 0) -> None:
        """Continue a run where `frontier` told, with this step; nothing is collected before. Once more where
        the learner was lost and begins anew: what was in work for it is worked on again.
        """
        for task in self._collecting.values():
            task.cancel()
        await asyncio.gather(*self._collecting.values(), return_exceptions=True)
        self._collecting.clear()
        self._unpublished.clear()
        self._asked.clear()
        if hasattr(self, "_pool"):
            self._pool.close()
        told: dict[str, Any] = frontier or {"next_position": 0, "alive": ()}
        self._signals.restore(told.get("teachers", {}))
        self._stages = StageRules(self._config, told.get("stages"))
        rollout = self._config.rollout
        self._ledger = SlotLedger(self._config.slots, Frontier(told["next_position"], tuple(told["alive"])))
        standing = StandingPool(
            self._ledger,
            prompts_per_step=rollout.prompts_per_step,
            max_staleness=rollout.max_staleness,
            window=self._config.window,
            version=step,
        )
        work = GroupWork(self._config, self._stream, self._ends, self._teachers, self._objective)
        self._pool = GroupPool(self._ledger, standing, work)

    async def probe_teachers(self, tokens: Mapping[str, str]) -> None:
        """Reach every teacher and compare it with the policy, see `Teacher.probe`.

        Args:
            tokens: see `services.clients.handles.teacher_tokens`. Not among the actor's arguments, which Ray
                keeps in its control store, and so perhaps in Redis and on its disk.
        """
        config = self._config
        policy = PolicyFacts(
            self._tokenizer,
            config.policy.max_length,
            self._ends.stop,
            config.policy.chat,
            self._some_prompts,
        )
        asked = replace(policy, top_k=config.teacher_top_k, named=config.policy_top_k)
        for place, settings in config.scorers.items():
            try:
                compared = Compared()
                if config.scores_with_teacher or place == REFERENCE:
                    # Once, on this actor's event loop: a remote teacher's connections are kept.
                    teacher = self._teachers[place] = reach_teacher(
                        config.name, place, settings, tokens.get(place), say=partial(self._say, place)
                    )
                    if isinstance(settings, RemoteTeacher) and (way := through(settings.url)):
                        self._say(place, f"{settings.url} is asked{way}")
                    compared = await teacher.probe(policy if place == REFERENCE else asked)
                    await self._signals.pin(place, teacher, settings, policy)
                elif isinstance(settings, ServeTeacher):
                    compared = compare_model(policy, resolve_model(settings.model))
                for remark in compared.remarks:
                    self._say(place, remark)
                if place == REFERENCE:  # an earlier state of the policy, whose end tokens are its own
                    continue
                self._ends.add(place, compared, [stage.objective for stage in config.stages])
            except MismatchError as error:
                raise MismatchError(f"{place}: {error}") from error

    async def end_tokens(self) -> tuple[int, ...]:
        """Tokens that end a response, those of the teachers too once they were probed."""
        return self._ends.stop

    def _say(self, place: str, text: str) -> None:
        """For whoever watches the run."""
        telemetry.log("teacher", level="warning", place=place, said=text)
        journal = ray.get_actor(f"{self._config.name}-journal", namespace=NAMESPACE)
        journal.note.remote(f"{place}: {text}")

    async def next_shard(self, step: int, rank: int) -> Shard | None:
        """Rank `rank`'s part of step `step`; None once the run is to stop.

        Asking again gives the same shard.
        """
        if step not in self._asked and self._stop:
            return None
        self._asked.add(step)
        batch = await self._collected(step)
        if self._goes_on(step + 1):
            self._collected(step + 1)
        if rank not in batch.taken:
            batch.taken.add(rank)
            telemetry.waiting("update", -len(batch.shards[rank].plan.rows))
        return batch.shards[rank]

    def _goes_on(self, step: int) -> bool:
        """Whether the step is collected while the learner is still at the one before."""
        config = self._config
        if self._stop or not config.rollout.max_staleness or step >= config.total_steps:
            return False
        return self._objective(step).responses_of != "task"

    def _objective(self, step: int) -> Objective:
        return self._stages.position(step).stage.objective

    def _last(self, step: int) -> int:
        """The last step of a step's stage, as far as is known."""
        place, last = self._stages.position(step), step
        while last + 1 < self._config.total_steps and self._stages.position(last + 1).index == place.index:
            last += 1
        return last

    def _collected(self, step: int) -> "asyncio.Task[_Batch]":
        if step not in self._collecting:
            self._collecting[step] = asyncio.create_task(self._collect(step))
        return self._collecting[step]

    async def trained(self, step: int, since: float) -> list[StageSpan]:
        """The step was trained on: its groups are consumed.

        Args:
            since: when the step began, in seconds since the epoch.

        Returns:
            What was at work here since then.
        """
        batch = await self._collecting.pop(step)
        for position in batch.positions:
            self._ledger.advance(position, "trained")
        self._ledger.release(batch.dropped)
        self._unpublished[step] = batch.positions
        return self._spans.within(since, time.time())

    async def published(self, version: int) -> None:
        """The policy after so many steps is out: the slots of these steps' groups are free."""
        before = [step for step in self._unpublished if step < version]
        if before and self._stages.position(max(before)).stage.until is not None:
            self._undecided = version  # the next groups' objective is not known before `end_stage`
            return
        self._free(version)

    def _free(self, version: int) -> None:
        before = [step for step in self._unpublished if step < version]
        self._pool.published(version, [each for step in before for each in self._unpublished.pop(step)])

    async def frontier(self) -> dict[str, Any]:
        """What `begin` takes to continue from here."""
        noted = {"teachers": self._signals.pinned, "stages": self._stages.kept}
        return asdict(self._ledger.frontier) | noted

    async def end_stage(self, step: int, numbers: Mapping[str, float], accuracy: float | None) -> str | None:
        """Whether the stage of a step ends with it, see `StageRules.after`."""
        why = self._stages.after(step, numbers, accuracy)
        if why is not None:  # groups of the next stage are asked other things; its first step begins them
            self._pool.end_stage()
        if self._undecided is not None:
            self._free(self._undecided)
            self._undecided = None
        return why

    async def stop(self) -> None:
        """Give out no further step; a step that is being collected is still finished."""
        self._stop = True

    async def _collect(self, step: int) -> _Batch:
        with tracing.of_step(self._config.name, step):
            return await self._collect_groups(step)

    async def _collect_groups(self, step: int) -> _Batch:
        objective, last = self._objective(step), self._last(step)
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
        checked = await self._check(step, kept) if objective.trains_on_rollouts else {}
        with span("assemble", items=sum(len(group.rollouts) for group in kept)):
            if objective.trains_on_rollouts:
                prompts = self._stream.prompts([g.position for g in kept])
                table, groups = join_groups(
                    kept, self._stream.table(prompts), scale_advantages=objective.scales_advantage
                )
            else:
                table, groups = accepted_sequences(kept)
            plans = self._plan(step, table, groups)
            tracing.note(
                groups=[group.group_id for group in kept], dropped=[group.group_id for group in dropped]
            )
        counted = self._counted(step) if objective.trains_on_rollouts else None
        facts = StepFacts(
            numbers=checked | step_numbers(kept, dropped, counted),
            trained_groups=[group.group_id for group in kept],
            dropped_groups=[group.group_id for group in dropped],
            visits=visits_of(
                kept,
                dropped,
                self._stream,
                self._teacher_of(objective),
                "policy" if objective.trains_on_rollouts else "teacher",
            ),
            stale_masked=stale_tokens(kept, counted) if counted is not None else {},
        )
        positions = [group.position for group in kept]
        return self._hand_out(step, positions, [group.position for group in dropped], table, plans, facts)

    async def _check(self, step: int, kept: Sequence[Group]) -> dict[str, float]:
        """Whether the teachers' scores may be trained on, see `Signals.check`."""
        objective = self._objective(step)
        teacher_of = self._teacher_of(objective)
        prompts = self._stream.prompts([group.position for group in kept])
        return await self._signals.check(
            step,
            [(teacher_of(prompt.task), group) for prompt, group in zip(prompts, kept, strict=True)],
            REFERENCE if objective.needs_reference else None,
            lambda place: self._ends.asked_of(place, objective),
        )

    def _teacher_of(self, objective: Objective) -> Callable[[str], str | None]:
        """Where in the recipe the teacher is that scores a task's responses; None: nobody does."""
        return self._config.teacher_of if objective.scores_with_teacher else lambda task: None

    def _worked_solutions(self, step: int, positions: list[int]) -> _Batch:
        """A batch of the task's own demonstrations; no service is asked."""
        with span("assemble", items=len(positions)):
            prompts = self._stream.prompts(positions)
            ids = [self._stream.group_id(p, prompt) for p, prompt in zip(positions, prompts, strict=True)]
            table = self._stream.demonstrations(prompts, ids)
            plans = self._plan(step, table, ids)
            for position in positions:
                self._ledger.advance(position, "taken")
        visits = solved(positions, ids, prompts, self._stream.epoch_prompts)
        return self._hand_out(step, positions, [], table, plans, StepFacts(trained_groups=ids, visits=visits))

    def _plan(self, step: int, table: pa.Table, groups: Sequence[str]) -> list[ShardPlan]:
        masks = self._config.rollout.truncated == "mask" and "finish_reason" in table.column_names
        return plan_shards(
            table,
            groups=groups,
            mini_batches=self._config.learner.updates_per_batch,
            ranks=self._config.learner.workers,
            token_weights=self._objective(step).token_weights,
            pair_cost=self._pair_cost,
            counted=~is_cut_off(table) if masks else None,
            counted_versions=self._counted(step),
        )

    def _counted(self, step: int) -> range:
        """Policy versions whose tokens count in a step."""
        return range(max(step - self._config.rollout.max_staleness, 0), step + 1)

    def _hand_out(
        self,
        step: int,
        positions: list[int],
        dropped: list[int],
        table: pa.Table,
        plans: list[ShardPlan],
        facts: StepFacts,
    ) -> _Batch:
        facts.numbers["trained_tokens"] = int(young_tokens(table, self._counted(step)).sum())
        telemetry.waiting("update", len(table))
        ends = self._ends.outcome
        keeps = self._config.telemetry.keep_experience == "all"
        whole = ray.put(labelled(table, ends, self._counted(step))) if keeps else None
        shards = []
        for plan in plans:
            rows = ray.put(schema.take_rows(table, plan.rows).combine_chunks())
            shards.append(Shard(step, rows, plan, facts, ends, dict(self._stages.early_ends), whole))
        return _Batch(positions, dropped, shards)

    def _teaches(self, group: Group, objective: Objective) -> bool:
        """Whether there is something to learn from the group under this objective."""
        if not objective.trains_on_rollouts:
            return bool(group.rewards.column("correct").to_numpy().any())
        if not (objective.uses_group_advantage and self._config.rollout.drop_uninformative):
            return True
        rewards = group.rewards.column("reward").to_numpy()
        return bool(group_relative_advantages(rewards, [group.group_id] * len(rewards)).informative.any())
