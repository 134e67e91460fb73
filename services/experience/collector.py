"""From prompts to experience: the stream, the pool of groups, and the steps that are given out.

    pool.py -- begins --> rollout -------+--> teacher --+--> finished --> join, advantages --> shards
      ^  standing_pool    rollout/       |    teacher/  |    groups       joining.py           assembly.py
      |  work.py          service.py     +--> verifier--+    groups.py    schema/joining.py      |
      |                                       verifier/                                          v
      |                                       service.py                           next_shard(step, rank)
      +-- slots freed <-- dropped (uninformative)                                  learner/loop.py
      +-- slots freed <-- published(version) <-- new weights are out  <-- trained(step)
                                                 weights/store.py         its groups are consumed

Who waits for whom:

- `StepBatches.collect` (one task per step) waits for its groups (`GroupPool.take`); the services unblock
  each, within their time limits.
- a group's scoring and judging wait for its sampling alone: other groups are still being generated meanwhile.
- `next_shard` waits for the batch of its step; the first rank to ask starts it, the others share it.
- strictly on-policy nothing is generated for the next step before the learner asks for it, which is after
  `published`, an evaluation of what was published, and `end_stage`. With a staleness above zero the pool goes
  on meanwhile, and the next step is collected as soon as this one is handed out.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray

from rlad_core.config import RemoteTeacher, RunConfig, ServeTeacher, resolve_model
from rlad_core.config.run import REFERENCE
from rlad_core.language_model.end_tokens import end_tokens
from rlad_core.prompt_stream import PromptStream, Selection
from rlad_core.proxies import through
from rlad_core.sections import code
from rlad_core.sizing import pair_cost_of
from rlad_core.slots import Frontier, SlotLedger
from rlad_core.stage_rules import StageRules
from rlad_core.standing_pool import StandingPool
from rlad_core.timeline import StageSpan
from services.base import telemetry, tracing
from services.base.log_lines import configure_logging
from services.base.span_collector import SpanCollector
from services.base.tokenizer import load_tokenizer
from services.base.uncollected import uncollected
from services.clients.handles import ServiceNames, reach_teacher
from services.clients.teachers import Compared, MismatchError, PolicyFacts, Teacher, compare_model
from services.experience.batches import Batch, StepBatches
from services.experience.ends import EndTokens
from services.experience.groups import Group
from services.experience.patience import Patience
from services.experience.pool import GroupPool
from services.experience.shards import Shard
from services.experience.signals import Signals
from services.experience.work import GroupWork
from services.serve.cluster import NAMESPACE

_PROBED_PROMPTS = 4


@dataclass(frozen=True)
class _Attempt:
    """The run from where the learner began; made anew where it was lost and begins anew."""

    stages: StageRules
    ledger: SlotLedger
    pool: GroupPool[Group]
    batches: StepBatches
    collecting: dict[int, "asyncio.Task[Batch]"] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    unpublished: dict[int, list[int]] = field(default_factory=dict)
    """Positions of the steps that were trained, and whose weights are not out."""

    def collected(self, step: int) -> "asyncio.Task[Batch]":
        if step not in self.collecting:
            self.collecting[step] = asyncio.create_task(self.batches.collect(step))
        return self.collecting[step]

    async def end(self) -> None:
        """Nobody takes what was in work for it."""
        for task in self.collecting.values():
            task.cancel()
        await asyncio.gather(*self.collecting.values(), return_exceptions=True)
        self.pool.close()


class ExperienceCollector:
    """Actor that owns the stream of prompts and the slots.

    Args:
        config: the run.
        model_folder: where the policy's tokenizer is.
        run_dir: the run's folder, for its log.
    """

    def __init__(self, config: RunConfig, model_folder: str, run_dir: str) -> None:
        telemetry.name_run(config.name)
        configure_logging(Path(run_dir), level=config.telemetry.log_level)
        if config.telemetry.traces:
            tracing.begin(config.name, Path(run_dir) / "traces")
        self._config = config
        with uncollected():
            self._tokenizer = load_tokenizer(model_folder)
        self._pair_cost = pair_cost_of(model_folder)
        self._stream: PromptStream | None = None
        stop = config.policy.stop_token_ids
        self._ends = EndTokens(stop or end_tokens(self._tokenizer, model_folder), said=stop is not None)
        self._some_prompts: tuple[str, ...] = ()
        self._attempt: _Attempt | None = None
        self._spans = SpanCollector()
        self._patience = Patience(self._note, self._spans.open)
        self._teachers: dict[str, Teacher] = {}
        self._signals = Signals(config.seed, self._say)
        self._stop = False
        self._open = asyncio.Event()

    async def open(self) -> None:
        """All that a step needs is up."""
        self._open.set()

    async def opened(self) -> None:
        """Until it is: a learner may be there before."""
        await self._open.wait()

    async def read_prompts(self, selection: Selection) -> None:
        """Have the tasks make their prompts; nothing else is asked before.

        Args:
            selection: what is left out of them.

        Raises:
            ValueError: a task cannot give as many; or what a user's own task raises, see `code.fault`.
        """
        try:
            stream = await asyncio.to_thread(PromptStream, self._config, self._tokenizer, selection)
            some = stream.table(stream.prompts(range(_PROBED_PROMPTS)))
            self._some_prompts = tuple(some.column("prompt").to_pylist())
        except Exception as error:
            raise ValueError(f"the prompts cannot be made: {code.fault(error)}") from error
        self._stream = stream

    async def begin(self, frontier: dict[str, Any] | None, step: int = 0) -> None:
        """Continue a run where `frontier` told, with this step; nothing is collected before. Once more where
        the learner was lost and begins anew: what was in work for it is worked on again.

        Raises:
            RuntimeError: the prompts were not read.
        """
        if (stream := self._stream) is None:
            raise RuntimeError("there are no prompts: `read_prompts` comes before `begin`")
        before, self._attempt = self._attempt, None
        if before is not None:
            await before.end()
        telemetry.nothing_waits()
        told: dict[str, Any] = frontier or {"next_position": 0, "alive": ()}
        self._signals.restore(told.get("teachers", {}))
        stages = StageRules(self._config, told.get("stages"))
        rollout = self._config.rollout
        ledger = SlotLedger(self._config.slots, Frontier(told["next_position"], tuple(told["alive"])))
        standing = StandingPool(
            ledger,
            prompts_per_step=rollout.prompts_per_step,
            max_staleness=rollout.max_staleness,
            window=self._config.window,
            version=step,
        )
        work = GroupWork(self._config, stream, self._ends, self._teachers, stages.objective)
        pool = GroupPool(ledger, standing, work)
        batches = StepBatches(
            self._config, stream, self._ends, self._signals, stages, ledger, pool, self._pair_cost
        )
        self._attempt = _Attempt(stages, ledger, pool, batches)

    async def probe_teachers(self, tokens: Mapping[str, str]) -> None:
        """Reach every teacher and compare it with the policy, see `Teacher.probe`.

        Args:
            tokens: see `services.clients.teachers.teacher_tokens`. Not among the actor's arguments, which Ray
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
                        config.services_name,
                        place,
                        settings,
                        tokens.get(place),
                        say=partial(self._say, place),
                    )
                    if isinstance(settings, RemoteTeacher) and (way := through(settings.url)):
                        self._say(place, f"{settings.url} is asked{way}")
                    reads = policy if place == REFERENCE else asked
                    reads = replace(reads, max_length=settings.longest(policy.max_length))
                    compared = await teacher.probe(reads)
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
        self._note(f"{place}: {text}")

    def _note(self, text: str) -> None:
        journal = ray.get_actor(ServiceNames(self._config.services_name).of("journal"), namespace=NAMESPACE)
        journal.note.remote(text)

    async def next_shard(self, step: int, rank: int) -> Shard | None:
        """Rank `rank`'s part of step `step`; None once the run is to stop.

        Asking again gives the same shard.
        """
        begun = self._begun
        if step not in begun.asked and self._stop:
            return None
        collected = begun.collected(step)
        if step not in begun.asked:
            begun.asked.add(step)
            await self._patience.wait(step, collected)
        batch = await collected
        if self._goes_on(step + 1):
            begun.collected(step + 1)
        if rank not in batch.taken:
            batch.taken.add(rank)
            telemetry.waiting("update", -len(batch.shards[rank].plan.rows))
        return batch.shards[rank]

    def _goes_on(self, step: int) -> bool:
        """Whether the step is collected while the learner is still at the one before."""
        config = self._config
        if self._stop or not config.rollout.max_staleness or step >= config.total_steps:
            return False
        return self._begun.stages.objective(step).responses_of != "task"

    @property
    def _begun(self) -> _Attempt:
        if self._attempt is None:
            raise RuntimeError("nothing is collected before `begin`")
        return self._attempt

    async def trained(self, step: int) -> None:
        """The step was trained on: its groups are consumed."""
        begun = self._begun
        batch = await begun.collecting.pop(step)
        for position in batch.positions:
            begun.ledger.advance(position, "trained")
        begun.ledger.release(batch.dropped)
        begun.unpublished[step] = batch.positions

    async def published(self, version: int) -> None:
        """The policy after so many steps is out: the slots of these steps' groups are free."""
        unpublished = self._begun.unpublished
        before = [step for step in unpublished if step < version]
        self._begun.pool.published(version, [each for step in before for each in unpublished.pop(step)])

    async def spans(self, since: float) -> list[StageSpan]:
        """What was at work here since then (seconds since the epoch); older spans are forgotten."""
        return self._spans.within(since, time.time())

    async def frontier(self) -> dict[str, Any]:
        """What `begin` takes to continue from here."""
        noted = {"teachers": self._signals.pinned, "stages": self._begun.stages.kept}
        return asdict(self._begun.ledger.frontier) | noted

    async def end_stage(self, step: int, numbers: Mapping[str, float], accuracy: float | None) -> str | None:
        """Whether the stage of a step ends with it, see `StageRules.after`."""
        return self._begun.stages.after(step, numbers, accuracy)

    async def stop(self) -> None:
        """Give out no further step; a step that is being collected is still finished."""
        self._stop = True
