"""The rollout replicas as one engine, which vLLM's trainer side of a transfer speaks to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from services.serve.everyone import EveryoneError, ask_everyone, tell_everyone
from services.weights.store import ReplicaReport

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_WHO = "rollout replicas"


class ReplicaGroup:
    """Every replica of the rollout deployment as one engine: vLLM's ``VLLMWeightSyncClient`` over Serve.

    Args:
        handle: of the rollout deployment.
        num_replicas: how many there must be.
        timeout_s: limit of each call.
        on_lost: called where the replicas did not join a group, or take the weights that are being sent, in
            the thread that asked them.

    Attributes:
        version: what the next update is called; set before sending.
        reports: of the last finished update.
        fault: why the attempt that is going on cannot succeed, once that is known.
    """

    def __init__(
        self,
        handle: DeploymentHandle,
        num_replicas: int,
        timeout_s: float,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._handle = handle
        self._num_replicas = num_replicas
        self._timeout_s = timeout_s
        self._on_lost = on_lost
        self._members: list[str] = []
        self.version = 0
        self.reports: list[ReplicaReport] = []
        self.fault: str | None = None
        self._answered = threading.Event()
        self._answered.set()

    def changed_or_why_not(self) -> bool | str:
        """Whether other replicas are there than those of the transfer group; or why nobody knows.

        An attempt begins with it.
        """
        self.fault = None
        try:
            return self._present() != self._members
        except EveryoneError as error:
            return str(error)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Make all replicas that are there the members of a new group.

        vLLM calls it in a thread, and looks at what it raises when all have come together.
        """
        try:
            self._members = self._present()
            self._tell("connect_transfer", init_info, self._members, what="join the learner's transfer group")
        except EveryoneError:
            self._on_lost()
            raise

    def start_weight_update(self) -> None:
        self._tell("begin_update", what="begin an update")
        self._answered.clear()  # `update_weights` is next

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """vLLM calls it in a thread, and looks at what it raises when all weights are sent."""
        try:
            self._tell("receive_weights", update_info, what="receive the weights")
        except EveryoneError:
            self._on_lost()
            raise
        finally:
            self._answered.set()

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        del weight_version  # the trainer side does not know it
        self.reports = self._tell("end_update", self.version, what=f"take policy version {self.version}")

    def settle(self) -> None:
        """Wait until the replicas have answered to weights that were being sent: after the limit of that call
        they have.
        """
        self._answered.wait(2 * self._timeout_s)

    def _present(self) -> list[str]:
        """All replicas; one that Serve is just replacing is waited for."""
        with self._noting():
            there: list[ReplicaReport] = ask_everyone(
                self._handle,
                "policy_version",
                who=_WHO,
                what="take part in an update",
                expected=self._num_replicas,
                timeout_s=self._timeout_s,
            )
            names = sorted(report["replica"] for report in there)
            if len(names) > self._num_replicas:
                there_are = f"{len(names)} {_WHO} are there ({', '.join(names)})"
                raise EveryoneError(f"{there_are}, and an update is for {self._num_replicas}")
        return names

    def _tell(self, method: str, *args: Any, what: str) -> list[ReplicaReport]:
        with self._noting():
            return tell_everyone(
                self._handle,
                method,
                *args,
                who=_WHO,
                what=what,
                expected=self._num_replicas,
                timeout_s=self._timeout_s,
            )

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except EveryoneError as error:
            self.fault = str(error)
            raise


def place_in_group(
    init_info: dict[str, Any], workers_per_replica: int, replicas: list[str], replica: str
) -> dict[str, Any]:
    """The trainer's ``init_info``, which knows one engine, for the engine of one of several replicas.

    Args:
        init_info: as vLLM's trainer side made it.
        workers_per_replica: engine workers of each replica.
        replicas: all of them, in the same order everywhere.
        replica: whose engine it is for.
    """
    number = replicas.index(replica)
    if "rank_offset" in init_info:  # nccl: rank 0 is the learner, then the workers of each replica
        return init_info | {"rank_offset": init_info["rank_offset"] + number * workers_per_replica}
    return init_info | {"replica_rank": number, "num_replicas": len(replicas)}
