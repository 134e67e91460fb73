"""Pushing weights from the learner's GPUs straight into the engines' (transfer: nccl or sharded_rdt).

The transports are vLLM's own, with a trainer side and a worker side; here is what leads them through Serve:

    every learner rank: WeightPush.publish(version)
      rank 0: who is there? a changed set of replicas makes a new transfer group (connect_transfer)
      rank 0: begin_update on every replica -> generation is paused
      every rank: gathers its tensors;  rank 0: receive_weights on every replica, at the same time
      rank 0: end_update(version) on every replica -> generation goes on

A replica that starts between two updates has no weights but those of its folder and nothing to pull from.
So it refuses requests for newer ones, which the others answer, until the next update takes it in. An update
waits for replicas that are being replaced; one that a replica ends early is begun anew with a new group.
Weights that were pushed have no checksum: they never exist as one image.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import ray
import torch
import torch.distributed as dist

from rlad_core.config import RunConfig
from services.base.ports import free_port
from services.serve.cluster import NAMESPACE
from services.serve.everyone import EveryoneError, ask_everyone, tell_everyone
from services.weights.gathered import GatheredWeights
from services.weights.store import ReplicaReport

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle
    from vllm.distributed.weight_transfer.base import (
        TrainerInitInfo,
        TrainerWeightTransferEngine,
    )

Transport = Literal["nccl", "sharded_rdt"]
_WHO = "rollout replicas"
_PAUSE_S = 0.5
_PATIENCE = 3
"""Time limits until an update is given up: a replica breaks within one, and is replaced."""


class WeightPush:
    """The learner's end. Made, and called, by every rank in the same order.

    Args:
        transport: the ``transfer`` the rollout service runs with.
        weights: every parameter under its Hugging Face name in the engines' precision, gathered as it is
            sent.
        handle: of the rollout deployment.
        num_replicas: how many replicas must take every version.
        workers_per_replica: engine workers of one replica, its tensor parallel size.
        namespace: Ray namespace in which sharded_rdt's actors are found.
        timeout_s: limit of each call to the replicas.
    """

    def __init__(
        self,
        transport: Transport,
        weights: GatheredWeights,
        handle: "DeploymentHandle",
        *,
        num_replicas: int,
        workers_per_replica: int,
        namespace: str,
        timeout_s: float,
    ) -> None:
        self._transport = transport
        self._source = _source(weights)
        self._timeout_s = timeout_s
        self._replicas = ReplicaGroup(handle, num_replicas, timeout_s)
        self._num_workers = num_replicas * workers_per_replica
        self._workers_per_replica = workers_per_replica
        self._namespace = namespace
        self._sender: TrainerWeightTransferEngine | None = None

    def publish(self, version: int) -> list[ReplicaReport]:
        """Give every replica the module's present weights as ``version``.

        Returns:
            The replicas' reports on rank 0, nothing elsewhere.

        Raises:
            EveryoneError: naming the replicas that failed, after some attempts.
        """
        deadline = time.monotonic() + _PATIENCE * self._timeout_s
        self._replicas.version = version
        while (fault := self._send()) is not None:
            # Whoever holds a part of this update breaks, and Serve replaces it: a new group takes all of it.
            self._disconnect()
            if _from_rank_0(time.monotonic() > deadline):
                raise EveryoneError(f"policy version {version} did not reach the replicas: {fault}")
            time.sleep(_PAUSE_S)
        return self._replicas.reports

    def _send(self) -> str | None:
        """One attempt; on every rank what went wrong with it on rank 0, or None."""
        # Asked before a group is made: who makes it waits for all of its members.
        changed = self._replicas.changed_or_why_not() if _rank() == 0 else False
        changed = _from_rank_0(changed)
        if isinstance(changed, str):
            return changed
        fault: str | None = None
        self._source.begin()
        try:
            if changed or self._sender is None:
                self._connect()
            assert self._sender is not None
            self._sender.send_weights()
        except EveryoneError as error:
            # The other ranks go through all of the weights, and gathering one takes every rank.
            fault = str(error)
            self._source.finish()
        told: str | None = _from_rank_0(fault)
        return told

    def _disconnect(self) -> None:
        if self._sender is not None:
            self._sender.shutdown()
            self._sender = None

    def _connect(self) -> None:
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

        self._disconnect()
        self._sender = WeightTransferTrainerFactory.trainer_init(
            self._init_info(), client=self._replicas, source=self._source
        )

    def _init_info(self) -> "TrainerInitInfo":
        if self._transport == "nccl":
            from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

            # Only rank 0 opens the rendezvous, so only its address and port matter.
            return NCCLTrainerInitInfo(
                rank=_rank(),
                master_address=ray.util.get_node_ip_address(),
                master_port=free_port(host="0.0.0.0"),
                world_size=1 + self._num_workers,
            )
        from vllm.distributed.weight_transfer.sharded_rdt_trainer import ShardedRDTTrainerInitInfo

        return ShardedRDTTrainerInitInfo(
            rank=_rank(),
            num_consumers=self._num_workers,
            workers_per_replica=self._workers_per_replica,
            trainer_actor_namespace=self._namespace,
        )


def weight_push(config: RunConfig, weights: GatheredWeights, handle: "DeploymentHandle") -> WeightPush | None:
    """What gives the weights to the engines; None where they pull them (object_store)."""
    if config.weights.transfer == "object_store":
        return None
    return WeightPush(
        config.weights.transfer,
        weights,
        handle,
        num_replicas=config.rollout.num_replicas,
        workers_per_replica=config.rollout.tensor_parallel_size,
        namespace=NAMESPACE,
        timeout_s=config.weights.timeout_s,
    )


def _source(weights: GatheredWeights) -> Any:
    """The same as vLLM's transports want it, and able to go through what an attempt left undone."""
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

    class Source(WeightSource):
        def begin(self) -> None:
            self._going: Iterator[tuple[str, torch.Tensor]] | None = None

        def finish(self) -> None:
            for _ in self._going or iter(weights):
                pass

        def metadata(self) -> list[ParamMeta]:
            return [ParamMeta(spec.name, spec.dtype, spec.shape) for spec in weights.specs()]

        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            self._going = iter(weights)
            return self._going

    return Source()


class ReplicaGroup:
    """Every replica of the rollout deployment as one engine: vLLM's ``VLLMWeightSyncClient`` over Serve.

    Args:
        handle: of the rollout deployment.
        num_replicas: how many there must be.
        timeout_s: limit of each call.

    Attributes:
        version: what the next update is called; set before sending.
        reports: of the last finished update.
    """

    def __init__(self, handle: "DeploymentHandle", num_replicas: int, timeout_s: float) -> None:
        self._handle = handle
        self._num_replicas = num_replicas
        self._timeout_s = timeout_s
        self._members: list[str] = []
        self.version = 0
        self.reports: list[ReplicaReport] = []

    def changed_or_why_not(self) -> bool | str:
        """Whether other replicas are there than those of the transfer group; or why nobody knows."""
        try:
            return self._present() != self._members
        except EveryoneError as error:
            return str(error)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Make all replicas that are there the members of a new group."""
        self._members = self._present()
        self._tell("connect_transfer", init_info, self._members, what="join the learner's transfer group")

    def start_weight_update(self) -> None:
        self._tell("begin_update", what="begin an update")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self._tell("receive_weights", update_info, what="receive the weights")

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        del weight_version  # the trainer side does not know it
        self.reports = self._tell("end_update", self.version, what=f"take policy version {self.version}")

    def _present(self) -> list[str]:
        """All replicas; one that Serve is just replacing is waited for."""
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
        return tell_everyone(
            self._handle,
            method,
            *args,
            who=_WHO,
            what=what,
            expected=self._num_replicas,
            timeout_s=self._timeout_s,
        )


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


def _from_rank_0(answer: Any) -> Any:
    """What rank 0 says, on every rank."""
    answers = [answer]
    if dist.is_initialized():
        dist.broadcast_object_list(answers, src=0)
    return answers[0]


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
