"""How new weights come to a replica: calls of its handle, for the service to inherit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services.base.losses import LossError, is_loss
from services.rollout.settings import RolloutArgs
from services.weights.held_policy import BrokenReplicaError, HeldPolicy
from services.weights.store import ReplicaReport


class TakesWeights:
    """What the service has, that these calls work with. They are never answered over HTTP."""

    _args: RolloutArgs
    _held: HeldPolicy
    _replica: str

    async def policy_version(self) -> ReplicaReport:
        """What this replica serves with.

        Raises:
            BrokenReplicaError: its weights are unsound.
        """
        self._held.refuse_if_broken()
        return self._held.report

    # Called on every replica by `services.weights.store.sync` ...

    async def update_weights(self, version: int) -> ReplicaReport:
        """Load ``version`` from the store, unless it is what the replica holds already. Idempotent."""
        with self._named(f"load policy version {version}"):
            await self._held.load(version)
        return self._held.report

    # ... and these by `services.weights.push`, in this order, where the learner pushes.

    async def connect_transfer(self, init_info: dict[str, Any], replicas: list[str]) -> ReplicaReport:
        """Join the learner's transfer group, as number ``replicas.index(this replica)``."""
        from services.weights.replica_group import place_in_group

        with self._named("join the learner's transfer group"):
            await self._held.connect(
                place_in_group(init_info, self._args.tensor_parallel_size, replicas, self._replica)
            )
        return self._held.report

    async def begin_update(self) -> ReplicaReport:
        """Pause and open the weights."""
        with self._named("begin an update"):
            await self._held.begin()
        return self._held.report

    async def receive_weights(self, update_info: dict[str, Any]) -> ReplicaReport:
        """Take what the learner pushes."""
        with self._named("receive weights"):
            await self._held.receive(update_info)
        return self._held.report

    async def end_update(self, version: int) -> ReplicaReport:
        """Serve with what was pushed, as ``version``."""
        with self._named(f"take policy version {version}"):
            await self._held.end(version)
        return self._held.report

    # Called on every replica around the learner's work, where they share a GPU (`services.learner.sleeping`).

    async def sleep(self) -> ReplicaReport:
        """Give the GPU's memory to the learner; requests by handle wait meanwhile. Idempotent, as `wake`."""
        with self._named("fall asleep"):
            await self._held.sleep()
        return self._held.report

    async def wake(self) -> ReplicaReport:
        """Take it again, once the weights are known to be those from before."""
        with self._named("wake up"):
            await self._held.wake()
        return self._held.report

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """A broadcast's errors arrive without their replica's name, and vLLM's may not be known there.

        Raises:
            BrokenReplicaError: as it is, which has the name.
            LossError: for want of what the policy store has lost.
            RuntimeError: for any other reason.
        """
        try:
            yield
        except BrokenReplicaError:
            raise
        except Exception as error:
            raise (LossError if is_loss(error) else RuntimeError)(
                f"replica {self._replica} could not {what}: {type(error).__name__}: {error}"
            ) from error
