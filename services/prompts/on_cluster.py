"""The check on a cluster whose files this machine lacks: there it counts, here it is shown."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray
from ray.exceptions import RayError
from rich.console import Console

from rlad_core.config import EvaluationRecipe
from rlad_core.prompt_checks import Checked, PromptsRefusedError, check
from services.base.failures import said
from services.prompts.checking import tokenizer_of
from services.prompts.shown import Shown

_POLL_S = 0.5
_ANSWER_S = 60.0


class Checker:
    """Actor on a node of the cluster.

    Args:
        config: the run.
        model_folder: where the policy's tokenizer is.
    """

    def __init__(self, config: EvaluationRecipe, model_folder: str) -> None:
        self._config, self._model_folder = config, model_folder
        self._at = ("loading the tokenizer", 0, 1)

    async def check(self, earlier: Checked | None) -> Checked | PromptsRefusedError:
        """See `rlad_core.prompt_checks.check`; a refusal is returned, with what is dropped."""
        try:
            return await asyncio.to_thread(
                lambda: check(self._config, tokenizer_of(self._model_folder), self._count, earlier)
            )
        except PromptsRefusedError as error:
            return error

    async def progress(self) -> tuple[str, int, int]:
        """What is done now, and how far."""
        return self._at

    def _count(self, what: str, done: int, total: int) -> None:
        self._at = (what, done, total)


def check_on_cluster(
    config: EvaluationRecipe, model_folder: str, console: Console, earlier: Checked | None = None
) -> Checked:
    """As `check_here`, on a node of the cluster that this process has joined; for as long as it gets on.

    Raises:
        PromptsRefusedError: see `check`; or nothing got on for ``cluster.start_timeout_s``.
    """
    checker = ray.remote(Checker).options(num_cpus=0).remote(config, model_folder)
    try:
        answer = checker.check.remote(earlier)
        with Shown(console) as shown:
            _wait(answer, checker, shown, config.cluster.start_timeout_s)
        found: Checked | PromptsRefusedError = ray.get(answer, timeout=_ANSWER_S)
    except RayError as error:  # what the check raised, or its node is gone
        raise PromptsRefusedError(f"the prompts cannot be checked: {said(error)}") from None
    finally:
        ray.kill(checker)
    if isinstance(found, PromptsRefusedError):
        raise found
    return found


def _wait(answer: Any, checker: Any, shown: Shown, limit_s: float) -> None:
    """Wait until it is there, or nothing has moved for too long."""
    before: tuple[str, int, int] | None = None
    deadline = time.monotonic() + limit_s
    progress = checker.progress.remote()
    while not ray.wait([answer], timeout=_POLL_S)[0]:
        if ray.wait([progress], timeout=0)[0]:
            now = ray.get(progress, timeout=_ANSWER_S)
            progress = checker.progress.remote()
            shown(*now)
            if now != before:
                before, deadline = now, time.monotonic() + limit_s
        if time.monotonic() > deadline:
            at = "no node has begun with it" if before is None else f"it stands at {before[0]}, {before[1]}"
            raise PromptsRefusedError(
                f"waited {limit_s:g} s (cluster.start_timeout_s) for the cluster to check the prompts: {at}"
            )
