"""Training to the end of a run or to an interrupt, while its progress is shown."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

from ray.exceptions import RayActorError

from rlad_core.config import RunConfig
from services.base.asking import answer_of
from services.base.failures import said
from services.base.losses import is_loss
from services.run.actors import RunActors
from services.run.errors import LearnerError, RunError
from services.run.learning import Learning
from services.run.lease import Lease
from services.run.watch import Watcher

_POLL_S = 0.5
_ANSWER_S, _GONE_S = 60.0, 10.0


def fit(
    learner: Learning, config: RunConfig, actors: RunActors, watcher: Watcher, lease: Lease
) -> BaseException | None:
    """Train to the end, or to an interrupt.

    Args:
        learner: has begun.

    Returns:
        What went wrong with the learner, or which of the actors is gone, or None.

    Raises:
        RunError: another process has taken the run over.
        TimeoutError: an actor does not answer, or the learner does not end where the journal has.
        KeyboardInterrupt: the second one, or there is no step to end after the first: a process is lost, and
            who was told to stop begins nothing anew.
    """
    interrupted = False
    while not learner.has_ended:
        try:
            learner.wait(_POLL_S)
            watcher.show(_answer(actors.journal.news.remote(watcher.seen), "the journal to answer"))
            if lease.lost:
                raise RunError(f"the run was taken over by {lease.lost}, and stops here")
        except RayActorError as error:
            # The journal is gone. The learner finds it out when it is to tell its step, and ends.
            if not learner.wait(config.learner.timeout_s):
                what = f"the learner to end, as the journal has: {said(error)}"
                raise TimeoutError(f"waited {config.learner.timeout_s:g} s for {what}") from error
            break  # told below, where it is asked again
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            watcher.say("stopping after this step, with a checkpoint (Ctrl-C again stops at once)")
            try:
                _answer(actors.collector.stop.remote(), "the experience collector to stop")
            except RayActorError as error:  # there is no step to end
                raise KeyboardInterrupt from error
    try:
        failure = _ended(actors, watcher, learner)
    except RayActorError as error:
        failure = error
    if interrupted and failure is not None and is_loss(failure):
        raise KeyboardInterrupt from failure
    return failure


def _ended(actors: RunActors, watcher: Watcher, learner: Learning) -> BaseException | None:
    """What went wrong with a learner that has ended.

    Raises:
        RayActorError: one of the actors is gone.
    """
    watcher.show(_answer(actors.journal.news.remote(watcher.seen), "the journal to answer"))
    if (given_up := _answer(actors.journal.given_up.remote(), "the journal to answer")) is not None:
        return LearnerError(*given_up)
    failure = learner.failure
    if failure is not None and not is_loss(failure):
        return failure
    # Ranks that find one of them gone end as if all were done, or are lost with it. One that is only busy has
    # its time where nothing else is known.
    limit_s = _ANSWER_S if failure is None else _GONE_S
    there = [actor.__ray_ready__.remote() for actor in (actors.collector, actors.evaluator)]
    with nullcontext() if failure is None else suppress(TimeoutError):
        _answer(there, "the run's actors to answer", limit_s)
    return failure


def _answer(reference: Any, what: str, limit_s: float = _ANSWER_S) -> Any:
    """The answer of one of the run's actors to a question that takes it no time."""
    return answer_of(reference, timeout_s=limit_s, what=what)
