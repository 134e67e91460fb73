"""Training on recorded steps: the learner alone, without rollouts, teacher, verifier or Ray.

Each rank is a process on this machine. They go through the files in order, and from the first again where the
recipe has more steps than there are files. Checkpoints, record and export are those of a run.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rlad_core import recorded
from rlad_core.config import RunConfig
from rlad_core.config.evaluation_recipe import arrived
from rlad_core.sizing import pair_cost_of
from rlad_core.timeline import stage_table
from services.base import telemetry
from services.base.log_lines import configure_logging
from services.base.span_collector import SpanCollector
from services.base.stopping import end_with_parent
from services.base.telemetry import span
from services.learner import exported
from services.learner.checkpoint import address_of, forked
from services.learner.checkpoints import Checkpoints, is_due
from services.learner.rank_environment import rank_environment
from services.learner.step_metrics import empty_told, step_row
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.report.journal import Journal
from services.run.errors import RunError
from services.run.lease import Lease
from services.run.watch import Watcher

_POLL_S = 0.5
_BEGUN_BY = "spawn"
"""How ranks are begun: afresh, as CUDA wants it."""


@dataclass(frozen=True)
class _Work:
    """What every rank is told."""

    values: dict[str, Any]
    """The recipe, and the code of the user's that it names."""
    code: dict[str, str]
    policy_folder: str
    files: tuple[Path, ...]
    run_dir: Path
    meeting: Path
    """A file through which the ranks find each other."""


def replay(
    config: RunConfig,
    policy_folder: str,
    files: Sequence[Path],
    run_dir: Path,
    watcher: Watcher,
    lease: Lease,
) -> None:
    """Carry out a recipe's steps on recorded experience from the last checkpoint on, and export the policy.

    An interrupt ends it after the step, with a checkpoint; a second one at once.

    Args:
        config: its learner, policy and stages.
        policy_folder: where the policy starts from.
        files: of recorded steps.
        run_dir: of this run; written to.
        watcher: shown what is recorded.
        lease: of the run's folder.

    Raises:
        torch.multiprocessing.ProcessRaisedException: a rank failed; holds what it raised.
        torch.multiprocessing.ProcessExitedException: a rank was killed.
        RunError: another process has taken the folder.
    """
    meeting = run_dir / "ranks"
    meeting.unlink(missing_ok=True)
    work = _Work(config.model_dump(mode="json"), config.code, policy_folder, tuple(files), run_dir, meeting)
    context = mp.get_context(_BEGUN_BY)
    stop, news = context.Event(), context.SimpleQueue()
    with _deaf_to_interrupts(), _passed_on(rank_environment(config.learner, shares_cores=False)):
        ranks = mp.start_processes(
            _rank,
            args=(work, stop, news),
            nprocs=config.learner.workers,
            join=False,
            start_method=_BEGUN_BY,
        )
    ended = said = False
    try:
        with _interrupts_set(stop):
            while not ended:
                ended = ranks.join(timeout=_POLL_S)
                while not news.empty():
                    watcher.show(news.get())
                if lease.lost:
                    raise RunError(f"the run was taken over by {lease.lost}, and stops here")
                if stop.is_set() and not said:
                    said = True
                    watcher.say("stopping after this step, with a checkpoint (Ctrl-C again stops at once)")
    finally:
        for process in ranks.processes:
            process.kill()
        meeting.unlink(missing_ok=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started here never hear Ctrl-C, which a terminal tells all of a group."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _passed_on(variables: Mapping[str, str]) -> Iterator[None]:
    """Processes that are started here have these in their environment."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_set(stop: Any) -> Iterator[None]:
    """Ctrl-C and SIGTERM set the event, which tears nothing apart that is just being read; Ctrl-C again
    raises KeyboardInterrupt.
    """

    def tell(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        stop.set()

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _rank(rank: int, work: _Work, stop: Any, news: Any) -> None:
    end_with_parent()
    config = arrived(RunConfig, work.values, work.code)
    telemetry.name_run(config.name)
    configure_logging(work.run_dir, level=config.telemetry.log_level)
    torch.set_num_threads(config.learner.threads)
    on_gpu = config.learner.num_gpus > 0
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    _meet(rank, config, work.meeting)
    try:
        _Replay(config, work, device, stop, news).carry_out()
    finally:
        dist.destroy_process_group()


def _meet(rank: int, config: RunConfig, meeting: Path) -> None:
    """Become one of the ranks; none waits longer for the others than the recipe says.

    Not by an address: in a URL a folder's # or ? would end the path.
    """
    ranks, longest = config.learner.workers, timedelta(seconds=config.learner.timeout_s)
    store = dist.FileStore(str(meeting.absolute()), ranks)
    store.set_timeout(longest)
    dist.init_process_group(
        config.learner.process_group, store=store, rank=rank, world_size=ranks, timeout=longest
    )


class _Replay:
    """One rank's part; all methods are collective."""

    def __init__(self, config: RunConfig, work: _Work, device: torch.device, stop: Any, news: Any) -> None:
        self._config, self._work, self._device = config, work, device
        self._stop, self._news, self._shown = stop, news, 0
        self._rank = dist.get_rank()
        self._policy = TrainedPolicy(
            config, work.policy_folder, device, tell=lambda text: news.put([("note", text)])
        )
        self._pair_cost = pair_cost_of(work.policy_folder)
        output, settings = config.output, config.telemetry
        address = address_of(str(work.run_dir), output.checkpoints, config.name)
        self._checkpoints = Checkpoints(
            address, count=output.keep_checkpoints, best=output.keep_best, timeout_s=config.learner.timeout_s
        )
        self._spans = SpanCollector()
        self._journal: Journal | None = None
        if self._rank == 0:
            self._journal = Journal(str(work.run_dir), settings.trackers, settings.project)

    def carry_out(self) -> None:
        """From the last checkpoint to the end, or to where it is told to stop."""
        total, every = self._config.total_steps, self._config.learner.checkpoint_every
        first = done = self._begin()
        while done < total and not self._is_to_stop():
            self._step(done)
            done += 1
            if done == total or is_due(every, done):
                self._checkpoint(done)
        if first < done < total and not is_due(every, done):
            self._checkpoint(done)
        self._checkpoints.wait()
        if done == total:
            told = recorded.read(self._work.files[0]).end_tokens
            ends = self._config.policy.stop_token_ids or told
            self._policy.export(self._work.run_dir / exported.FOLDER, ends)
        if self._journal is not None:
            self._journal.close()

    def _begin(self) -> int:
        """Load the last checkpoint, if any; the number of steps done."""
        own = self._checkpoints.last
        found = own or forked(self._work.run_dir)
        if found is not None:
            self._policy.load(found.address, found.state.get("policy"), forks=own is None)
        first = 0 if found is None else found.step
        if self._journal is not None:
            self._journal.begin(first)
            self._show(self._journal)
        return first

    def _is_to_stop(self) -> bool:
        """Whether any rank was told so; all of them agree."""
        told = torch.tensor(int(self._stop.is_set()), device=self._device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return bool(told.item())

    def _step(self, step: int) -> None:
        started, begun = time.time(), time.monotonic()  # see `Learner.step`
        stage = self._config.position(step).stage
        whole = recorded.read(self._work.files[step % len(self._work.files)])
        drops = self._config.rollout.drop_uninformative
        whole.check(stage.objective, self._config.policy_teacher, drop_uninformative=drops)
        found = whole.for_objective(stage.objective, drop_uninformative=drops)
        plan = found.plan(
            stage.objective,
            mini_batches=self._config.learner.updates_per_batch,
            ranks=self._config.learner.workers,
            pair_cost=self._pair_cost,
            masks=self._config.rollout.masks,
        )[self._rank]
        rows = TrainingRows(found.table.take(plan.rows), plan, found.end_tokens)
        statistics = self._policy.train_on(rows, stage.objective, step)
        ended = started + time.monotonic() - begun
        table = stage_table(self._spans.take(), started, ended)
        if self._journal is not None:
            numbers = found.numbers(masks=self._config.rollout.masks) | {
                name: each.mean for name, each in statistics.items()
            }
            row = step_row(step, stage.label, numbers, table, seconds=ended - started)
            trained = set(found.groups)
            left_out = sorted(set(whole.groups) - trained)
            self._journal.step({**row, "experience": found.file.name}, sorted(trained), left_out)
            if (empty := empty_told(step, numbers)) is not None:
                self._journal.note(empty)
            self._show(self._journal)

    def _checkpoint(self, steps: int) -> None:
        with span("checkpoint", items=int(self._rank == 0)):
            state = {"step": steps, "run": self._config.name, "policy": self._policy.notes()}
            # Neither a stream of prompts nor an evaluation goes with it.
            self._checkpoints.save(self._policy.state(), {**state, "frontier": None, "score": None})

    def _show(self, journal: Journal) -> None:
        told = journal.news(self._shown)
        self._shown += len(told)
        self._news.put(told)
