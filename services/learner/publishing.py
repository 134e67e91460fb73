"""A new policy version on its way to the rollout engines, waited for or behind the next step.

    publish(version) --> image in the policy store ---> every replica takes it ---> tell(version)
                         weights/store.py: publish      weights/store.py: sync
                         all ranks gather               rank 0; a thread, where the next step may go on

What is gathered is a copy, so the next update may begin with it. Weights that are pushed (nccl, sharded_rdt)
leave the learner's own memory: there the step waits until all replicas have them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch.distributed as dist

from rlad_core import metrics
from rlad_core.config import RunConfig
from services.base import telemetry
from services.base.telemetry import span
from services.clients.handles import ServiceNames
from services.learner.checkpoints import is_due
from services.weights.gathered import GatheredWeights
from services.weights.push import weight_push
from services.weights.store import publish, sync


def must_publish(config: RunConfig, step: int, early_ends: Mapping[int, int]) -> bool:
    """Whether engines need the policy after a step: it is evaluated, or groups may be begun with it.

    Supervised steps need no hand-over.

    Args:
        early_ends: of stages, see `RunConfig.position`.
    """
    version = step + 1
    if version >= config.total_steps or is_due(config.evaluation.every, version):
        return True
    if config.position(step, early_ends).stage.until is not None:  # which objective follows is not known yet
        return True
    # Of a step's groups the first tokens may be so many versions old, also where the steps before it sample
    # nothing: they are begun while the learner is at these.
    last = min(version + config.rollout.max_staleness, config.total_steps - 1)
    stages = (config.position(each, early_ends).stage for each in range(version, last + 1))
    return any(stage.objective.trains_on_rollouts for stage in stages)


class Publishing:
    """Of one rank. `publish` and `wait` are collective: every rank calls them in the same order.

    Args:
        config: the run.
        weights: what is published.
        tell: called by rank 0 with each version that all replicas have.
    """

    def __init__(self, config: RunConfig, weights: GatheredWeights, tell: Callable[[int], None]) -> None:
        self._config = config
        self._weights = weights
        self._tell = tell
        self._services = ServiceNames(config.services_name)
        self._push = weight_push(config, weights, self._services.rollout())
        self._first = dist.get_rank() == 0
        self._thread = ThreadPoolExecutor(1, "publishing")
        self._running: Future[None] | None = None

    def publish(self, version: int, *, behind: bool = False) -> None:
        """Hand the policy to every rollout replica as `version`.

        Args:
            behind: return once it is copied; the next `publish` or `wait` waits for the rest.

        Raises:
            EveryoneError: not every replica took it, or one that was published before.
        """
        with span("weight_sync", items=int(self._first)):
            self._finish()  # within: the step waits for it
            if self._push is not None:
                self._push.publish(version)
            elif self._first:
                publish(self._services.policy_store, version, self._weights, self._config.weights.timeout_s)
            else:
                for _ in self._weights:  # a collective call
                    pass
            if self._first:  # before the replicas have it: one that never takes it is to be seen
                telemetry.gauge(metrics.RUN_LEARNER_VERSION, version)
            if not behind:
                self._hand_over(version)
            dist.barrier()
        if behind and self._first:
            self._running = self._thread.submit(self._hand_over_behind, version)

    def wait(self) -> None:
        """Wait until all replicas have what was published last."""
        self._finish()
        dist.barrier()

    def _finish(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None

    def _hand_over_behind(self, version: int) -> None:
        with span("weight_sync", behind=True):
            self._hand_over(version)

    def _hand_over(self, version: int) -> None:
        if not self._first:
            return
        config = self._config
        if self._push is None:
            sync(self._services.rollout(), version, config.rollout.num_replicas, config.weights.timeout_s)
        self._tell(version)
