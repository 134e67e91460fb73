"""The learner: Ray Train workers that turn experience into new policy versions.

Policy version v is the policy after v steps. A step, as every rank goes through it:

    next_shard(step) ---------> train_on (FSDP2) ---> trained(step) ---> publish ------> published(step + 1)
    experience/collector.py     trained_policy.py     consumed           publishing.py   frees the slots
      |                           |
      v                           v
    rows of this rank ---------> packed micro-batches ---> log-probs -----------> loss --------> gradient
    training_rows.py             rlad_core/packing.py      rlad_core/forward.py   rlad_core/objectives/

Then the step is recorded (report/journal.py), and every few steps there is a checkpoint.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device

from rlad_core import metrics
from rlad_core.config import RunConfig
from rlad_core.config.evaluation_recipe import arrived
from rlad_core.evaluation import overall
from rlad_core.group_rule import GroupRule
from rlad_core.objectives import Statistic
from rlad_core.recorded import labelled
from rlad_core.timeline import RecentStages
from services.base import telemetry, tracing
from services.base.asking import answer_of
from services.base.failures import said
from services.base.log_lines import configure_logging
from services.base.losses import is_loss, wait_s
from services.base.span_collector import SpanCollector
from services.base.telemetry import span
from services.clients.handles import ServiceNames
from services.experience.shards import Shard
from services.learner.checkpoint import address_of, forked
from services.learner.checkpoints import Checkpoints, is_due
from services.learner.planned import record_memory, record_planned
from services.learner.publishing import Publishing, must_publish
from services.learner.resting import Resting
from services.learner.step_metrics import (
    empty_told,
    forget_steps,
    mismatch_told,
    record_path,
    record_recent,
    record_step,
    record_teacher_cost,
    step_row,
)
from services.learner.step_times import StepClock, StepMoments, StepTimes, step_times
from services.learner.teacher_states import teacher_states
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.serve.cluster import NAMESPACE

_SIGN_S = 20.0


class Learner:
    """One rank's view of the run."""

    def __init__(self, config: RunConfig, policy_folder: str, run_dir: Path) -> None:
        context = ray.train.get_context()
        self.config = config
        self._run_dir = run_dir
        self.rank = context.get_world_rank()
        device = get_device()
        self.policy = TrainedPolicy(config, policy_folder, device, teacher_states(config, device))
        self.services = ServiceNames(config.services_name)
        self.collector = ray.get_actor(self.services.of("experience"), namespace=NAMESPACE)
        self.evaluator = ray.get_actor(self.services.of("evaluator"), namespace=NAMESPACE)
        self.journal = ray.get_actor(self.services.of("journal"), namespace=NAMESPACE)
        weights = self.policy.published_weights(getattr(torch, config.policy.dtype))
        self.publishing = Publishing(config, weights, tell=self._published)
        self.resting = Resting(config, config.weights.timeout_s)
        output = config.output
        self.checkpoints = Checkpoints(
            address_of(str(run_dir), output.checkpoints, config.name),
            count=output.keep_checkpoints,
            best=output.keep_best,
            timeout_s=config.learner.timeout_s,
        )
        self.spans = SpanCollector()
        self.recent = RecentStages()
        self._trained: float | None = None
        """When the last step was trained, in seconds since the epoch."""
        self.first = 0
        self._has_rules = any(stage.until is not None for stage in config.stages)
        self._told: dict[str, float] = {}
        """The last step in numbers."""
        self._stage = 0
        """Of the recipe, in which the last step was."""
        self.score = (-1, 0.0)
        """Of the last evaluation: after how many steps, and its accuracy over all held-out prompts."""

    def begin(self) -> int:
        """Load the last checkpoint, if any, and begin where it ends; the number of steps done.

        Record and stream of prompts continue from the same checkpoint. A fork has another run's at first.
        """
        state: Mapping[str, Any] = {"step": 0, "frontier": None}
        own = self.checkpoints.last
        checkpoint = own or forked(self._run_dir)
        if checkpoint is not None:
            state = checkpoint.state
            self.policy.load(checkpoint.address, state.get("policy"), forks=own is None)
        if self.rank == 0:
            attempt = self._ask(self.journal.begin.remote(state["step"]), "the record of the run")
            time.sleep(wait_s(self.config.learner.restart_wait_s, attempt))
            frontier = state["frontier"]
            if own is None and frontier is not None:  # a fork may have another teacher
                frontier = {**frontier, "teachers": {}}
            self._ask(self.collector.begin.remote(frontier, state["step"]), "the stream of prompts")
        self.first = int(state["step"])
        self.resting.wake()
        return self.first

    def evaluate(self, when: str, step: int) -> None:
        """Measure accuracy on the held-out prompts (rank 0; the others wait at the next collective call)."""
        self.publishing.wait()
        if self.rank == 0:
            self.journal.note.remote(f"evaluating policy version {step} on the held-out prompts")
            rows = self._ask(self.evaluator.evaluate.remote(step), f"the evaluation of policy version {step}")
            # The responses go from the one actor to the other, not through this process.
            told = self.journal.evaluation.remote(when, step, rows, self.evaluator.answers.remote())
            self._ask(told, f"the record of the evaluation of policy version {step}")
            for row in rows:
                telemetry.gauge(metrics.RUN_EVALUATION, row.accuracy, subset=row.subset)
            self.score = (step, overall(rows))
        dist.barrier()

    def step(self, step: int) -> bool:
        """One step of the run; False where the run is to stop before it."""
        clock = StepClock()
        # What other processes did between the steps is told with this one. A clock may be set back meanwhile.
        before = min(clock.start, self._trained or clock.start)
        of_step = tracing.of_step(self.config.name, step)
        with of_step, span("step", items=int(self.rank == 0), step=step, rank=self.rank):
            # No rank asks before all have begun: rank 0 has freed the last step's slots, and what is made
            # for this step, if another rank asks first, lies within rank 0's time of it.
            dist.barrier()
            asked = clock.now()
            shard: Shard | None = self._ask(
                self.collector.next_shard.remote(step, self.rank), f"the batch of step {step}"
            )
            if shard is None:
                return False
            got = clock.now()
            rows = TrainingRows(
                self._ask(shard.table, f"the rows of step {step}"), shard.plan, shard.end_tokens
            )
            with self.resting.asleep():
                stage = self.config.position(step, shard.early_ends).stage
                statistics = self.policy.train_on(rows, stage.objective, step, shard.early_ends)
            self._trained = trained = clock.now()
            if self.rank == 0:
                released = self.collector.trained.remote(step, before)
                elsewhere = self._ask(released, f"the release of step {step}")
            if must_publish(self.config, step, shard.early_ends):
                behind = self.config.rollout.max_staleness > 0 and step + 1 < self.config.total_steps
                self.publishing.publish(step + 1, behind=behind)
            elif self.rank == 0:
                self._published(step + 1)
        if self.rank == 0:
            moments = StepMoments(before, clock.start, asked, got, trained, clock.now())
            own = self.spans.within(moments.start, moments.end)
            facts = shard.facts
            times = step_times(self.config, moments, own, elsewhere, facts.teacher_waits, facts.judged)
            self._record(step, shard, statistics, times)
        else:
            self.spans.take()
        return True

    def _published(self, version: int) -> None:
        self._ask(self.collector.published.remote(version), f"the slots of step {version - 1}")

    def _record(self, step: int, shard: Shard, statistics: dict[str, Statistic], times: StepTimes) -> None:
        table, seconds, facts = times.table, times.seconds, shard.facts
        numbers = {**facts.numbers, **{name: s.mean for name, s in statistics.items()}, **times.numbers}
        self._told = numbers
        place = self.config.position(step, shard.early_ends)
        stage = place.stage
        row = step_row(step, stage.label, numbers, table, seconds=seconds)
        if place.index != self._stage:
            forget_steps()
            self._stage = place.index
        supervised = not stage.objective.trains_on_rollouts
        record_step(step + 1, numbers, table, seconds=seconds, supervised=supervised)
        record_path(times.path)
        record_recent(self.recent, table, seconds)
        record_teacher_cost(self.config.teacher_devices[1], times.teacher_s, numbers["trained_tokens"])
        record_memory()
        telemetry.gauge(metrics.RUN_RECIPE_STAGE, place.index)
        if step == self.first and (differ := mismatch_told(numbers, self.config.policy.dtype)) is not None:
            self.journal.note.remote(differ)
        if (empty := empty_told(step, numbers)) is not None:
            self.journal.note.remote(empty)
        stale = facts.stale_masked if self.config.rollout.max_staleness else None
        told = self.journal.step.remote(row, facts.trained_groups, facts.dropped_groups, facts.visits, stale)
        self._ask(told, f"the record of step {step}")
        settings = self.config.telemetry
        if shard.whole is not None:
            self.journal.sample.remote(step, shard.whole)
        elif (
            settings.keep_experience == "sampled"
            and is_due(settings.sample_experience_every, step)
            and len(sampled := self._ask(shard.table, f"the rows of step {step}"))
        ):
            some = sampled.slice(0, settings.sample_experience_rows)
            counted = shard.plan.counted_versions
            drops = self.config.rollout.drop_uninformative
            rule = GroupRule.of(stage.objective, drop_uninformative=drops)
            sample = labelled(some, shard.end_tokens, counted, whole=False, rule=rule)
            self.journal.sample.remote(step, sample)

    def end_stage(self, done: int) -> None:
        """Have it decided whether the stage of the last step ends with it (rank 0; others are told with their
        next shard).
        """
        if self.rank or not self._has_rules:
            return
        accuracy = self.score[1] if self.score[0] == done else None
        decided = self.collector.end_stage.remote(done - 1, self._told, accuracy)
        if (why := self._ask(decided, "whether a stage ends")) is not None:
            self.journal.note.remote(f"the stage ends after step {done}: {why}")

    def checkpoint(self, steps: int, *, wanted: bool) -> None:
        """Begin to write a checkpoint where one is wanted; training goes on meanwhile."""
        if not wanted:
            return
        with span("checkpoint", items=int(self.rank == 0)):
            state: dict[str, Any] = {"step": steps, "run": self.config.name, "policy": self.policy.notes()}
            if self.rank == 0:
                state["frontier"] = self._ask(self.collector.frontier.remote(), "the frontier of the prompts")
                state["score"] = self.score[1] if self.score[0] == steps else None
            self.checkpoints.save(self.policy.state(), state)

    def close(self, steps: int) -> None:
        """Wait for the last checkpoint; it has the score of the last evaluation, if that came after it."""
        self.publishing.wait()
        with span("checkpoint"):
            self.checkpoints.wait()
            if self.rank == 0 and self.score[0] == steps:
                self.checkpoints.rate(*self.score)

    def _ask(self, reference: Any, what: str) -> Any:
        """An actor's answer within the learner's limit.

        A cable that was cut can leave a connection that only one side has given up. The other one learns it
        from what it sends, and would wait for minutes; so something is sent now and then.
        """

        def give_signs() -> None:
            for actor in (self.collector, self.evaluator, self.journal):
                actor.__ray_ready__.remote()

        limit_s = self.config.learner.timeout_s
        return answer_of(reference, timeout_s=limit_s, what=what, meanwhile=give_signs, every_s=_SIGN_S)


def train_loop(settings: dict[str, Any]) -> None:
    """What every rank runs, and again where ranks were lost: they begin anew with the last checkpoint.

    What a rank raises by itself it would raise again. That is told to the journal, and the next ranks end at
    once: Ray Train starts them whatever the failure was. So they do where one of the run's actors is gone:
    the run makes it anew, and ranks with it.
    """
    config = arrived(RunConfig, settings["config"], settings["code"])
    names = ServiceNames(config.services_name)
    try:
        actors = [
            ray.get_actor(names.of(role), namespace=NAMESPACE)
            for role in ("journal", "experience", "evaluator")
        ]
    except ValueError:
        return
    journal = actors[0]
    limit_s = config.learner.timeout_s
    if answer_of(journal.given_up.remote(), timeout_s=limit_s, what="the journal to answer") is not None:
        return
    try:
        _train(config, settings)
    except Exception as error:
        if not is_loss(error):
            rank = ray.train.get_context().get_world_rank()
            told = journal.give_up.remote(f"learner rank {rank}: {said(error)}", traceback.format_exc())
            answer_of(told, timeout_s=limit_s, what="the journal to take a failure")
        raise


def _train(config: RunConfig, settings: dict[str, Any]) -> None:
    """The whole of a run, from the policy it starts from to the exported one."""
    telemetry.name_run(config.name)
    configure_logging(Path(settings["run_dir"]), level=config.telemetry.log_level)
    if config.telemetry.traces:
        tracing.begin(config.name, Path(settings["run_dir"]) / "traces")
    torch.set_num_threads(config.learner.threads)
    learner = Learner(config, settings["policy_folder"], Path(settings["run_dir"]))
    first = done = learner.begin()
    if learner.rank == 0:
        record_planned(config)
    learner.publishing.publish(first)
    if first == 0:
        learner.evaluate("before", 0)
    for step in range(first, config.total_steps):
        if not learner.step(step):
            break
        done = step + 1
        last = done == config.total_steps
        if not last and is_due(config.evaluation.every, done):
            learner.evaluate("step", done)
        learner.end_stage(done)
        learner.checkpoint(done, wanted=last or is_due(config.learner.checkpoint_every, done))
    else:
        learner.evaluate("after", done)
        learner.close(done)
        learner.policy.export(Path(settings["run_dir"]) / "export")
        time.sleep(config.telemetry.linger_s)
        return
    learner.checkpoint(done, wanted=done > first and not is_due(config.learner.checkpoint_every, done))
    learner.close(done)
