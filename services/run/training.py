"""What a run does in its cluster: services, and attempts at training within them.

It imports Serve, Ray Train and torch, which takes seconds: while Ray starts (`services.run.run`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rlad_core.config import RunConfig
from rlad_core.prompt_stream import Selection
from services.base.failures import said
from services.base.losses import is_loss
from services.learner.trainer import build_trainer
from services.run.actors import ask, ask_and_show, run_actors
from services.run.attempts import until_done
from services.run.fitting import fit
from services.run.learning import Learning
from services.run.lease import Lease
from services.run.services import ServicesOfRun, run_services, service_names
from services.run.watch import Watcher


def carry_out(
    config: RunConfig,
    policy_folder: str,
    run_dir: Path,
    selection: Selection,
    tokens: dict[str, str],
    watcher: Watcher,
    lease: Lease,
) -> BaseException | None:
    """Train to the end of the run, with as many attempts as it has.

    Args:
        config: of the run.
        policy_folder: where the policy starts from.
        run_dir: the run's folder.
        selection: which prompts are left out.
        tokens: see `services.clients.teachers.teacher_tokens`.
        watcher: shows progress.
        lease: of the run's folder.

    Returns:
        What went wrong with the last attempt, or None.

    Raises:
        Exception: what went wrong otherwise.
    """
    watcher.say(f"starting {', '.join(service_names(config))}")
    with run_services(config, policy_folder, watcher) as services:
        attempt = partial(
            _attempt, config, policy_folder, run_dir, selection, tokens, services, watcher, lease
        )
        return until_done(config.learner, attempt, watcher.say)


def _attempt(
    config: RunConfig,
    policy_folder: str,
    run_dir: Path,
    selection: Selection,
    tokens: dict[str, str],
    services: ServicesOfRun,
    watcher: Watcher,
    lease: Lease,
) -> BaseException | None:
    """The run's actors, and training with them, which ends where one of them is lost.

    They and the learner import and load while the services do, once one of these has left a core to them. A
    learner with GPUs is begun when the services are up: an engine finds out how much of a GPU is free.
    """
    watcher.seen = 0  # of a new journal
    learner = Learning(build_trainer(config, policy_folder).fit, watcher.say)
    services.wait_for_one()
    try:
        with run_actors(config, policy_folder, run_dir, selection) as actors:
            if not config.learner.num_gpus:
                learner.begin()
            services.wait()
            actors.ready(config)
            if config.scorers:
                probes = actors.collector.probe_teachers.remote(tokens)
                asked = ", ".join(teacher.where for teacher in config.scorers.values())
                ask_and_show(config, probes, f"an answer of the teacher, {asked}", actors, watcher)
            # An evaluation ends responses as training does; the teachers' end tokens are known only now.
            ends = actors.collector.end_tokens.remote()
            ask(config, actors.evaluator.end_with.remote(ends), "the end tokens of the evaluation")
            learner.begin()
            ask(config, actors.collector.open.remote(), "the experience collector")
            return fit(learner, config, actors, watcher, lease)
    except Exception as error:
        # Without its actors it ends; the next attempt's learner may not train beside it.
        if is_loss(error) and not learner.wait(limit_s := config.learner.timeout_s):
            raise TimeoutError(f"waited {limit_s:g} s for the learner to end: {said(error)}") from error
        raise
