"""The run's actors, as every rank of its learner asks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import ray
from ray.actor import ActorHandle

from rlad_core.config import RunConfig
from services.base.asking import answer_of
from services.clients.handles import ServiceNames
from services.serve.cluster import NAMESPACE

_SIGN_S = 20.0


@dataclass(frozen=True)
class Actors:
    """Handles of the three.

    Attributes:
        timeout_s: limit for each answer.
    """

    collector: ActorHandle
    evaluator: ActorHandle
    journal: ActorHandle
    timeout_s: float

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Those of a run.

        Raises:
            ValueError: one of them is gone.
        """
        names = ServiceNames(config.services_name)
        roles = ("experience", "evaluator", "journal")
        collector, evaluator, journal = (ray.get_actor(names.of(each), namespace=NAMESPACE) for each in roles)
        return cls(collector, evaluator, journal, config.learner.timeout_s)

    def ask(self, reference: Any, what: str, timeout_s: float | None = None) -> Any:
        """An actor's answer.

        A cable that was cut can leave a connection that only one side has given up. The other one learns it
        from what it sends, and would wait for minutes; so something is sent now and then.

        Args:
            reference: what `remote` gave.
            what: is waited for, for the error.
            timeout_s: None: that of all answers.

        Raises:
            TimeoutError: naming `what`; or what the actor's method raised.
        """

        def give_signs() -> None:
            for actor in (self.collector, self.evaluator, self.journal):
                actor.__ray_ready__.remote()

        return answer_of(
            reference,
            timeout_s=self.timeout_s if timeout_s is None else timeout_s,
            what=what,
            meanwhile=give_signs,
            every_s=_SIGN_S,
        )
