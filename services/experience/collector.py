"""From prompts to experience: one table per learner step, in shards of equal cost.

    draw slots ------> rollout -------+--> teacher --+--> finished --> join, advantages --> shards
      ^  slots.py      rollout/       |    teacher/  |    groups       groups.py            assembly.py
      |                service.py     +--> verifier--+    groups.py    schema/joining.py      |
      |                                    verifier/                                          v
      |                                    service.py                           next_shard(step, rank)
      +-- slots freed <-- dropped (uninformative)                               learner/loop.py
      +-- slots freed <----------------------------------- trained(step) <------ new weights are out
                                                                                weights/store.py

Who waits for whom:

- `_collect` (one task per step) waits for its groups; the services unblock each, within their time limits.
- a group's scoring and judging wait for its sampling alone: other groups are still being generated meanwhile.
- `next_shard` waits for `_collect` of its step; the first rank to ask starts it, the others share it.
- `_collect` of the next step waits for free slots, which `trained` frees once the new weights are out.
  Strictly on-policy there are ``prompts_per_step`` slots, so nothing is generated before that. More slots (a
  staleness above zero) would let the next step's groups start earlier; nothing else here would change.
"""

import asyncio
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
from rlad_core.prompt_stream import PromptStream, Selection, rows_of
from rlad_core.proxies import through
from rlad_core.recorded import labelled
from rlad_core.sections import code
from rlad_core.sizing import pair_cost_of
from rlad_core.slots import Frontier, SlotLedger
from rlad_core.stage_rules import StageRules
from rlad_core.waiting import all_of
from services.base import telemetry, tracing
from services.base.loading import loading
from services.base.telemetry import span
from services.base.tokenizer import load_tokenizer
from services.clients.handles import ServiceNames, reach_teacher
from services.clients.responses import Responses
from services.clients.teachers import Compared, MismatchError, PolicyFacts, Teacher, compare_model
from services.experience.ends import EndTokens
from services.experience.groups import (
    Group,
    GroupWorker,
    accepted_sequences,
    join_groups,
    judged_by,
    step_numbers,
    unchanged,
)
from services.experience.shards import Shard, StepFacts
from services.experience.signals import Signals
from services.experience.visits import solved, visits_of
from services.rollout.settings import SamplingSettings
from services.serve.cluster import NAMESPACE

_PROBED_PROMPTS = 4


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
        run_dir: the run's folder, for its log.
    """

    def __init__(self, config: RunConfig, model_folder: str, run_dir: str) -> None:
        telemetry.name_run(config.name)
        telemetry.configure_logging(Path(run_dir), level=config.telemetry.log_level)
        if config.telemetry.traces:
            tracing.begin(config.name, Path(run_dir) / "traces")
        self._config = config
        self._services = ServiceNames(config.name)
        with loading():
            self._tokenizer = load_tokenizer(model_folder)
        self._pair_cost = pair_cost_of(model_folder)
        self._stream: PromptStream
        stop = config.policy.stop_token_ids
        self._ends = EndTokens(stop or end_tokens(self._tokenizer, model_folder), said=stop is not None)
        self._some_prompts: tuple[str, ...] = ()
        self._ledger = SlotLedger(config.slots)
        self._collecting: dict[int, asyncio.Task[_Batch]] = {}
        self._spans = telemetry.SpanCollector()
        self._stages = StageRules(config)
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

    async def begin(self, frontier: dict[str, Any] | None) -> None:
        """Continue a run where `frontier` told; nothing is collected before."""
        if frontier is not None:
            saved = Frontier(frontier["next_position"], tuple(frontier["alive"]))
            self._signals.restore(frontier.get("teachers", {}))
            self._ledger = SlotLedger(self._config.slots, saved)
            self._stages = StageRules(self._config, frontier.get("stages"))

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
        """What `begin` takes to continue from here."""
        noted = {"teachers": self._signals.pinned, "stages": self._stages.kept}
        return asdict(self._ledger.frontier) | noted

    async def end_stage(self, step: int, numbers: Mapping[str, float], accuracy: float | None) -> str | None:
        """Whether the stage of a step ends with it, see `StageRules.after`."""
        return self._stages.after(step, numbers, accuracy)

    async def stop(self) -> None:
        """Give out no further step; a step that is being collected is still finished."""
        self._stop = True

    async def _collect(self, step: int) -> _Batch:
        with tracing.of_step(self._config.name, step):
            return await self._collect_groups(step)

    async def _collect_groups(self, step: int) -> _Batch:
        objective = self._stages.position(step).stage.objective
        count = self._config.rollout.prompts_per_step
        if objective.responses_of == "task":
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
            self._take([group.position for group in kept])
            tracing.note(groups=[group.group_id for group in kept])
        facts = StepFacts(
            numbers=checked | step_numbers(kept, dropped, step if objective.trains_on_rollouts else None),
            trained_groups=[group.group_id for group in kept],
            dropped_groups=[group.group_id for group in dropped],
            visits=visits_of(
                kept,
                dropped,
                self._stream,
                self._teacher_of(objective),
                "policy" if objective.trains_on_rollouts else "teacher",
            ),
        )
        return self._hand_out(step, [group.position for group in kept], table, plans, facts)

    async def _check(self, step: int, kept: Sequence[Group]) -> dict[str, float]:
        """Whether the teachers' scores may be trained on, see `Signals.check`."""
        objective = self._stages.position(step).stage.objective
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
            self._take(positions)
        visits = solved(positions, ids, prompts, self._stream.epoch_prompts)
        return self._hand_out(step, positions, table, plans, StepFacts(trained_groups=ids, visits=visits))

    def _take(self, positions: list[int]) -> None:
        for position in positions:
            self._ledger.advance(position, "taken")

    def _plan(self, step: int, table: pa.Table, groups: Sequence[str]) -> list[ShardPlan]:
        masks = self._config.rollout.truncated == "mask" and "finish_reason" in table.column_names
        return plan_shards(
            table,
            groups=groups,
            mini_batches=self._config.learner.updates_per_batch,
            ranks=self._config.learner.workers,
            token_weights=self._stages.position(step).stage.objective.token_weights,
            pair_cost=self._pair_cost,
            counted=~is_cut_off(table) if masks else None,
        )

    def _hand_out(
        self, step: int, positions: list[int], table: pa.Table, plans: list[ShardPlan], facts: StepFacts
    ) -> _Batch:
        facts.spans.extend(self._spans.take())
        facts.numbers["trained_tokens"] = int(schema.lengths(table.column("response_token_ids")).sum())
        telemetry.waiting("update", len(table))
        ends = self._ends.outcome
        keeps = self._config.telemetry.keep_experience == "all"
        whole = ray.put(labelled(table, ends)) if keeps else None
        shards = [
            Shard(
                step,
                ray.put(schema.take_rows(table, plan.rows)),
                plan,
                facts,
                ends,
                dict(self._stages.early_ends),
                whole,
            )
            for plan in plans
        ]
        return _Batch(positions, shards)

    def _teaches(self, group: Group, objective: Objective) -> bool:
        """Whether there is something to learn from the group under this objective."""
        if not objective.trains_on_rollouts:
            return bool(group.rewards.column("correct").to_numpy().any())
        if not (objective.uses_group_advantage and self._config.rollout.drop_uninformative):
            return True
        rewards = group.rewards.column("reward").to_numpy()
        return bool(group_relative_advantages(rewards, [group.group_id] * len(rewards)).informative.any())

    async def _work_on(self, step: int, positions: list[int]) -> list[Group]:
        config, stage = self._config, self._stages.position(step).stage
        prompts = self._stream.prompts(positions)
        table = self._stream.table(prompts)
        group_ids = [self._stream.group_id(p, prompt) for p, prompt in zip(positions, prompts, strict=True)]
        groups = rows_of(table, prompts).append_column("group_id", pa.array(group_ids))
        demonstrates = not stage.objective.trains_on_rollouts
        sampling = SamplingSettings(
            group_size=1 if demonstrates else config.rollout.group_size,
            max_tokens=config.rollout.max_response_length,
            seed=config.seed,
            stop_token_ids=self._ends.stop,
        )
        workers = {task: self._worker(task, stage.objective) for task in {prompt.task for prompt in prompts}}

        async def work(row: int, position: int) -> Group:
            worker = workers[prompts[row].task]
            self._ledger.advance(position, "in_flight")
            version = 0 if demonstrates else step
            with tracing.span("group", {"group": group_ids[row], "position": position}):
                group = await worker.work(position, groups.slice(row, 1), table, sampling, version)
            self._ledger.advance(position, "finished")
            telemetry.waiting("assemble", len(group.rollouts))
            return group

        return await all_of(work(row, position) for row, position in enumerate(positions))

    def _worker(self, task: str, objective: Objective) -> GroupWorker:
        names, demonstrates = self._services, not objective.trains_on_rollouts
        responses = Responses(
            names.demonstrator() if demonstrates else names.rollout(),
            names.verifier(),
            self._config.rollout.timeout_s,
            pushed=self._config.weights.transfer != "object_store",
        )
        # What demonstrates is no policy that could learn to be shorter.
        judged = unchanged if demonstrates else judged_by(self._config)
        place = self._teacher_of(objective)(task)
        return GroupWorker(
            responses,
            None if place is None else self._teachers[place],
            judged,
            self._ends.asked_of(place, objective),
            self._teachers[REFERENCE] if objective.needs_reference else None,
            objective.teacher_top_k,
            objective.policy_top_k,
        )
