"""The learner: Ray Train workers that turn experience into new policy versions.

Policy version v is the policy after v steps. A step, as every rank goes through it:

    next_shard(step) ---------> train_on (FSDP2) ---> trained(step) ---> publish ------> published(step + 1)
    experience/collector.py     trained_policy.py     consumed           publishing.py   frees the slots
      |                           |
      v                           v
    rows of this rank ---------> packed micro-batches ---> log-probs -----------> loss --------> gradient
    training_rows.py             rlad_core/packing.py      rlad_core/forward.py   rlad_core/objectives/

Then the step is recorded (recording.py), and every few steps there are an evaluation (evaluating.py) and a
checkpoint (checkpoints.py). Collector, evaluator and journal are the run's actors (actors.py).
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device

from rlad_core.config import RunConfig
from rlad_core.config.evaluation_recipe import arrived
from services.base import telemetry, tracing
from services.base.failures import said
from services.base.log_lines import configure_logging
from services.base.losses import is_loss, wait_s
from services.base.span_collector import SpanCollector
from services.base.telemetry import span
from services.experience.shards import Shard
from services.learner import exported
from services.learner.actors import Actors
from services.learner.checkpoint import address_of, forked
from services.learner.checkpoints import Checkpoints, is_due
from services.learner.evaluating import Evaluations
from services.learner.planned import record_planned
from services.learner.publishing import Publishing, must_publish
from services.learner.recording import StepRecorder
from services.learner.sleeping import EnginesSleep
from services.learner.step_times import StepClock, StepMoments, step_times
from services.learner.teacher_states import teacher_states
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows


class Learner:
    """One rank's view of the run."""

    def __init__(self, config: RunConfig, policy_folder: str, run_dir: Path, actors: Actors) -> None:
        self.config = config
        self._run_dir = run_dir
        self.actors = actors
        self.rank = ray.train.get_context().get_world_rank()
        device = get_device()
        self.policy = TrainedPolicy(config, policy_folder, device, teacher_states(config, device))
        weights = self.policy.published_weights(getattr(torch, config.policy.dtype))
        self.publishing = Publishing(config, weights, tell=self._published)
        self.evaluations = Evaluations(actors, self.publishing, self.rank)
        self.sleep = EnginesSleep(config, config.weights.timeout_s)
        output = config.output
        self.checkpoints = Checkpoints(
            address_of(str(run_dir), output.checkpoints, config.name),
            count=output.keep_checkpoints,
            best=output.keep_best,
            timeout_s=config.learner.timeout_s,
        )
        self.spans = SpanCollector()
        self._trained: float | None = None
        """When the last step was trained, in seconds since the epoch."""
        self.recorder = StepRecorder(config, actors)
        self._has_rules = any(stage.until is not None for stage in config.stages)

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
            actors = self.actors
            attempt = actors.ask(actors.journal.begin.remote(state["step"]), "the record of the run")
            time.sleep(wait_s(self.config.learner.restart_wait_s, attempt))
            frontier = state["frontier"]
            if own is None and frontier is not None:  # a fork may have another teacher
                frontier = {**frontier, "teachers": {}}
            actors.ask(actors.collector.begin.remote(frontier, state["step"]), "the stream of prompts")
        self.sleep.wake()
        return int(state["step"])

    def step(self, step: int) -> bool:
        """One step of the run; False where the run is to stop before it."""
        clock, ask, collector = StepClock(), self.actors.ask, self.actors.collector
        # What other processes did between the steps is told with this one. A clock may be set back meanwhile.
        before = min(clock.start, self._trained or clock.start)
        of_step = tracing.of_step(self.config.name, step)
        with of_step, span("step", items=int(self.rank == 0), step=step, rank=self.rank):
            # No rank asks before all have begun: rank 0 has freed the last step's slots, and what is made
            # for this step, if another rank asks first, lies within rank 0's time of it.
            dist.barrier()
            asked = clock.now()
            shard: Shard | None = ask(
                collector.next_shard.remote(step, self.rank), f"the batch of step {step}"
            )
            if shard is None:
                return False
            got = clock.now()
            rows = TrainingRows(ask(shard.table, f"the rows of step {step}"), shard.plan, shard.end_tokens)
            with self.sleep.asleep():
                stage = self.config.position(step, shard.early_ends).stage
                statistics = self.policy.train_on(rows, stage.objective, step, shard.early_ends)
            self._trained = trained = clock.now()
            if self.rank == 0:
                ask(collector.trained.remote(step), f"the release of step {step}")
            if must_publish(self.config, step, shard.early_ends):
                behind = self.config.rollout.max_staleness > 0 and step + 1 < self.config.total_steps
                self.publishing.publish(step + 1, behind=behind)
            elif self.rank == 0:
                self._published(step + 1)
        if self.rank == 0:
            moments = StepMoments(before, clock.start, asked, got, trained, clock.now())
            own = self.spans.within(moments.start, moments.end)
            # Only now: what `published` began is the step's too.
            elsewhere = ask(collector.spans.remote(before), f"what was at work in step {step}")
            times = step_times(self.config, moments, own, elsewhere, shard.facts.times)
            self.recorder.record(step, shard, statistics, times)
        else:
            self.spans.take()
        return True

    def _published(self, version: int) -> None:
        published = self.actors.collector.published.remote(version)
        self.actors.ask(published, f"the slots of step {version - 1}")

    def end_stage(self, done: int) -> None:
        """Have it decided whether the stage of the last step ends with it (rank 0; others are told with their
        next shard).
        """
        if self.rank or not self._has_rules:
            return
        actors, accuracy = self.actors, self.evaluations.score(done)
        decided = actors.collector.end_stage.remote(done - 1, self.recorder.told, accuracy)
        if (why := actors.ask(decided, "whether a stage ends")) is not None:
            told = actors.journal.stage_end.remote(done - 1, why)
            actors.ask(told, "the journal to record the end of a stage")

    def checkpoint(self, steps: int, *, wanted: bool) -> None:
        """Begin to write a checkpoint where one is wanted; training goes on meanwhile."""
        if not wanted:
            return
        with span("checkpoint", items=int(self.rank == 0)):
            self.recorder.settle()
            state: dict[str, Any] = {"step": steps, "run": self.config.name, "policy": self.policy.notes()}
            if self.rank == 0:
                frontier = self.actors.collector.frontier.remote()
                state["frontier"] = self.actors.ask(frontier, "the frontier of the prompts")
                state["score"] = self.evaluations.score(steps)
            self.checkpoints.save(self.policy.state(), state)

    def close(self, steps: int) -> None:
        """Wait for the last checkpoint; it has the score of the last evaluation, if that came after it."""
        self.publishing.wait()
        with span("checkpoint"):
            self.checkpoints.wait()
            score = self.evaluations.score(steps)
            if self.rank == 0 and score is not None:
                self.checkpoints.rate(steps, score)

    def export(self) -> None:
        """Write the policy, with the tokens that ended its responses."""
        told = self.actors.collector.end_tokens.remote()
        ends = self.actors.ask(told, "the end tokens of the run")
        self.policy.export(self._run_dir / exported.FOLDER, ends)


def train_loop(settings: dict[str, Any]) -> None:
    """What every rank runs, and again where ranks were lost: they begin anew with the last checkpoint.

    What a rank raises by itself it would raise again. That is told to the journal, and the next ranks end at
    once: Ray Train starts them whatever the failure was. So they do where one of the run's actors is gone:
    the run makes it anew, and ranks with it.
    """
    config = arrived(RunConfig, settings["config"], settings["code"])
    try:
        actors = Actors.of(config)
    except ValueError:
        return
    if actors.ask(actors.journal.given_up.remote(), "the journal to answer") is not None:
        return
    try:
        _train(config, settings, actors)
    except Exception as error:
        if not is_loss(error):
            rank = ray.train.get_context().get_world_rank()
            what = f"learner rank {rank}: {said(error)}"
            told = actors.journal.give_up.remote(what, traceback.format_exc())
            actors.ask(told, "the journal to take a failure")
        raise


def _train(config: RunConfig, settings: dict[str, Any], actors: Actors) -> None:
    """The whole of a run, from the policy it starts from to the exported one."""
    telemetry.name_run(config.name)
    configure_logging(Path(settings["run_dir"]), level=config.telemetry.log_level)
    if config.telemetry.traces:
        tracing.begin(config.name, Path(settings["run_dir"]) / "traces")
    torch.set_num_threads(config.learner.threads)
    learner = Learner(config, settings["policy_folder"], Path(settings["run_dir"]), actors)
    # Services, the run's actors and the teachers' first answers have so long each.
    limit_s = 3 * config.cluster.start_timeout_s
    actors.ask(actors.collector.opened.remote(), "the services of the run (cluster.start_timeout_s)", limit_s)
    first = done = learner.begin()
    if learner.rank == 0:
        record_planned(config)
    learner.publishing.publish(first)
    if first == 0:
        learner.evaluations.evaluate("before", 0)
    for step in range(first, config.total_steps):
        if not learner.step(step):
            break
        done = step + 1
        last = done == config.total_steps
        if not last and is_due(config.evaluation.every, done):
            learner.evaluations.evaluate("step", done)
        learner.end_stage(done)
        learner.checkpoint(done, wanted=last or is_due(config.learner.checkpoint_every, done))
    else:
        learner.evaluations.evaluate("after", done)
        learner.close(done)
        learner.export()
        time.sleep(config.telemetry.linger_s)
        return
    learner.checkpoint(done, wanted=done > first and not is_due(config.learner.checkpoint_every, done))
    learner.close(done)
