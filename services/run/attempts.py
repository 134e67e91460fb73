"""Attempts at a run, of which a lost process ends one."""

from __future__ import annotations

import time
from collections.abc import Callable

from ray.train.v2.api.exceptions import WorkerGroupError

from rlad_core.config import LearnerConfig
from services.base.failures import said
from services.base.losses import is_loss, wait_s


def until_done(
    learner: LearnerConfig, attempt: Callable[[], BaseException | None], say: Callable[[str], None]
) -> BaseException | None:
    """Attempt a run until it ends by itself, or has lost processes more than `learner.max_failures` times.

    Args:
        attempt: returns or raises what went wrong; None: nothing did.
        say: told each time that the run goes on.

    Returns:
        What went wrong with the last attempt, or None.

    Raises:
        Exception: what an attempt raised that is no loss.
    """
    number = 1
    while True:
        try:
            failure = attempt()
        except Exception as error:
            if not is_loss(error):
                raise
            failure = error
        if failure is None or number > learner.max_failures or not is_loss(failure):
            return failure
        if isinstance(failure, WorkerGroupError):  # Ray Train has begun the ranks anew as often
            return failure
        number += 1
        pause_s = wait_s(learner.restart_wait_s, number)
        say(f"{said(failure)}; the run goes on from its last checkpoint in {pause_s:g} s")
        time.sleep(pause_s)
