"""Pushing weights from the learner's GPUs straight into the engines' (transfer: nccl or sharded_rdt).

The transports are vLLM's own, with a trainer side and a worker side; here is what leads them through Serve
(`services.weights.replica_group` is how they see the replicas):

    every learner rank: WeightPush.publish(version)
      rank 0: who is there? a changed set of replicas makes a new transfer group (connect_transfer)
      rank 0: begin_update on every replica -> generation is paused
      every rank: gathers its tensors;  rank 0: receive_weights on every replica, at the same time
      rank 0: end_update(version) on every replica -> generation goes on

A replica that starts between two updates has no weights but those of its folder and nothing to pull from.
So it refuses requests for newer ones, which the others answer, until the next update takes it in. An update
waits for replicas that are being replaced; one that a replica ends early is begun anew with a new group.
Weights that were pushed have no checksum: they never exist as one image.

The transports wait for each other without a limit, and the members of a group for each other for minutes.
vLLM asks the replicas in a thread and looks at their answer when it has sent all, or all have met, which does
not come about once one of them is gone. So that thread takes the learner's own end down where they answer
with a fault.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Literal

import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayError

from rlad_core.config import RunConfig
from services.base.losses import LossError
from services.base.ports import free_port
from services.serve.cluster import NAMESPACE
from services.serve.everyone import EveryoneError
from services.weights.gathered import GatheredWeights
from services.weights.rendezvous import end_rendezvous
from services.weights.replica_group import ReplicaGroup
from services.weights.store import ReplicaReport

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle
    from vllm.distributed.weight_transfer.base import (
        TrainerInitInfo,
        TrainerWeightTransferEngine,
    )

Transport = Literal["nccl", "sharded_rdt"]
_PAUSE_S = 0.5
_PATIENCE = 3
"""Time limits until an update is given up: a replica breaks within one, and is replaced."""
_RENDEZVOUS_S = 330.0
"""A little more than vLLM's own limit for the members of a group to meet, after which it says so itself."""
_NCCL_LOST = ("remote process exited", "unhandled system error")


class StuckGroupError(LossError):
    """A transfer group does not come about, and what waits for it in this process ends only with it."""


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
        self._timeout_s = timeout_s
        self._replicas = ReplicaGroup(handle, num_replicas, timeout_s, on_lost=self._take_down)
        self._source = _source(weights, self._replicas)
        self._num_workers = num_replicas * workers_per_replica
        self._workers_per_replica = workers_per_replica
        self._namespace = namespace
        self._sender: TrainerWeightTransferEngine | None = None
        self._meeting: int | None = None
        """Port at which a group is coming together."""
        self._taking_down = threading.Lock()

    def publish(self, version: int) -> list[ReplicaReport]:
        """Give every replica the module's present weights as ``version``.

        Returns:
            The replicas' reports on rank 0, nothing elsewhere.

        Raises:
            EveryoneError: naming the replicas that failed, after some attempts.
            StuckGroupError: a group did not come about.
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
        failure: Exception | None = None
        self._source.begin()
        try:
            if changed or self._sender is None:
                self._connect()
            assert self._sender is not None
            self._sender.send_weights()
        except StuckGroupError:
            raise
        except Exception as error:
            if self._replicas.fault is None and not _lost_replica(error):
                raise
            failure = error
            self._disconnect()
            self._replicas.settle()  # what a replica says is nearer to the cause than what the transport does
            # The other ranks go through all of the weights, and gathering one takes every rank.
            self._source.finish()
        told: str | None = _from_rank_0(None if failure is None else self._replicas.fault or str(failure))
        if failure is not None and told is None:  # of this rank alone
            raise failure
        return told

    def _disconnect(self) -> None:
        self._take_down()
        self._sender = None

    def _take_down(self) -> None:
        """End whatever this process does in the transfer, also what waits for a replica that is gone."""
        with self._taking_down:
            if self._sender is not None:
                self._sender.shutdown()
            elif self._meeting is not None:
                end_rendezvous(self._meeting)

    def _connect(self) -> None:
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

        self._disconnect()
        info, limit_s = self._init_info(), max(2 * self._timeout_s, _RENDEZVOUS_S)
        self._meeting = getattr(info, "master_port", None)  # sharded_rdt meets in actors of Ray
        made = _in_thread(
            lambda: WeightTransferTrainerFactory.trainer_init(
                info, client=self._replicas, source=self._source
            )
        )
        wait([made], limit_s)
        if not made.done():
            why = f"; {self._replicas.fault}" if self._replicas.fault else ""
            raise StuckGroupError(
                f"waited {limit_s:g} s for the transfer group of the learner and the rollout replicas{why}"
            )
        self._meeting = None
        self._sender = made.result()

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


def _source(weights: GatheredWeights, replicas: ReplicaGroup) -> Any:
    """The same, as vLLM's transports want it. It ends where the replicas refuse it, and can go through what
    an attempt left undone.
    """
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
            for each in self._going:
                if replicas.fault is not None:
                    raise EveryoneError(replicas.fault)
                yield each

    return Source()


def _in_thread(make: Callable[[], Any]) -> Future[Any]:
    """What `make` returns, called on this thread's device by a thread that keeps no process from ending."""
    made: Future[Any] = Future()
    device = torch.accelerator.current_device_index() if torch.accelerator.is_available() else None

    def run() -> None:
        try:
            if device is not None:
                torch.accelerator.set_device_index(device)
            made.set_result(make())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            made.set_exception(error)

    threading.Thread(target=run, name="transfer group", daemon=True).start()
    return made


def _lost_replica(failure: Exception) -> bool:
    """Whether a transport says that it does not reach its other end. Lost ranks show in other ways."""
    if isinstance(failure, RayError | dist.DistStoreError | dist.DistNetworkError):
        return True
    text = str(failure)  # vLLM's NCCL has no class of its own
    return text.startswith("NCCL error: ") and any(words in text for words in _NCCL_LOST)


def _from_rank_0(answer: Any) -> Any:
    """What rank 0 says, on every rank."""
    answers = [answer]
    if dist.is_initialized():
        dist.broadcast_object_list(answers, src=0)
    return answers[0]


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
