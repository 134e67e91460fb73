"""Engines that share a GPU with the learner sleep while it works.

    collect (engines awake) --> sleep --> update --> wake --> publish --> the next step's collect

Strictly on-policy nothing is sampled or scored while a step is trained on, so nobody of the run waits for
them. The step itself waits for what moves, and for the weights to be compared: its stage `sleep`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from ray import serve
from ray.serve.handle import DeploymentHandle

from rlad_core.config import RunConfig
from services.base.telemetry import span
from services.clients.handles import ServiceNames
from services.serve.everyone import ask_everyone


@dataclass(frozen=True)
class _Sleeper:
    """A service whose engines sleep."""

    name: str
    handle: DeploymentHandle
    replicas: int


class EnginesSleep:
    """The services of a run that sleep while its learner works. All ranks make and use it alike.

    Args:
        config: says which do.
        timeout_s: until all of a service's replicas sleep, or are awake.
    """

    def __init__(self, config: RunConfig, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        names = ServiceNames(config.services_name)
        self._sleepers: list[_Sleeper] = []
        if config.rollout.sleep:
            self._sleepers.append(_Sleeper("rollout", names.rollout(), config.rollout.num_replicas))
        for place, teacher in config.scoring_services.items():
            if teacher.sleep:
                handle = serve.get_app_handle(names.teacher_app(place))
                self._sleepers.append(_Sleeper(place, handle, teacher.num_replicas))
        for teacher in config.demonstrators.values():
            if teacher.sleep:
                sleeper = _Sleeper("demonstrator", names.demonstrator(), teacher.num_replicas)
                self._sleepers.append(sleeper)

    def wake(self) -> None:
        """Wake those that a learner which was lost had put to sleep. A collective call, as `asleep`."""
        if self._sleepers:
            self._tell("wake", "wake up")

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """They sleep within the block, and are awake after it. A collective call.

        Raises:
            EveryoneError: one could not, or its weights are not what they were; names it.
        """
        if not self._sleepers:
            yield
            return
        self._tell("sleep", "fall asleep")
        yield
        if torch.cuda.is_available():  # what the allocator keeps for later is theirs now
            torch.cuda.empty_cache()
        self._tell("wake", "wake up")

    def _tell(self, method: Literal["sleep", "wake"], what: str) -> None:
        first = dist.get_rank() == 0
        with span("sleep", items=len(self._sleepers) if first else 0):
            dist.barrier()
            if first:
                with ThreadPoolExecutor(len(self._sleepers), "sleep") as side_by_side:
                    told = [side_by_side.submit(self._ask, each, method, what) for each in self._sleepers]
                for each in told:
                    each.result()
            dist.barrier()

    def _ask(self, sleeper: _Sleeper, method: Literal["sleep", "wake"], what: str) -> None:
        ask_everyone(
            sleeper.handle,
            method,
            who=f"{sleeper.name} replicas",
            what=what,
            expected=sleeper.replicas,
            timeout_s=self._timeout_s,
        )
