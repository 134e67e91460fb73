"""Which policy version a replica's engine holds, and the only ways in which that changes.

    held --load, reach--> loading --> held (the new version)          object_store: the replica pulls
    held --begin--> open --receive--> open --end--> held              nccl, sharded_rdt: the learner pushes
    held --sleep--> asleep --wake, or a new version--> held           its GPU is another's for a while
    loading, open, asleep --error or time limit--> broken             until Serve has replaced the replica
    any --the engine's process has ended--> this one ends too         Serve replaces the replica at once

Only ``held`` serves: while it sleeps or an update is going on the engine is paused, and requests wait in it.
``broken`` is for good, since part of the weights may be new; its engine is shut down, so that waiting
requests fail.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Protocol

from rlad_core.client.errors import NotReadyError
from rlad_core.waiting import limit
from services.base.losses import LossError
from services.serve.lost_engine import EngineLostError, end_with_engine, ends_with_engine
from services.weights.image import LostImageError, check
from services.weights.policy_store import Publication
from services.weights.store import ReplicaReport

_SERVICE = "rollout"
"""Whose engines hold a policy, in logs."""


class StaleReplicaError(LossError):
    """The replica is older than the request wants, and there is no newer version to be had.

    A loss, for what a request wants was published before it.
    """


class BrokenReplicaError(NotReadyError, RuntimeError):
    """The replica's weights are unsound, and Serve replaces it; to be asked again."""


class UpdatableEngine(Protocol):
    """What is needed of `services.rollout.engine.PolicyEngine`."""

    async def label(self, version: int) -> None: ...
    async def init_transfer(self, init_info: dict[str, Any]) -> None: ...
    async def begin_update(self) -> None: ...
    async def receive(self, update_info: dict[str, Any]) -> None: ...
    async def end_update(self, version: int) -> None: ...
    async def sleep(self) -> None: ...
    async def wake(self) -> None: ...
    def shutdown(self) -> None: ...


class HeldPolicy:
    """The version inside one engine.

    Args:
        engine: just started, with the weights of its model folder.
        replica: name in reports and errors.
        store: handle of the `PolicyStore` to pull from; None where there is none, or the learner pushes.
        timeout_s: limit of every wait.
        on_version: told each version that the engine comes to hold, for metrics.
        node: Ray's id of the node that it runs on.
    """

    def __init__(
        self,
        engine: UpdatableEngine,
        replica: str,
        store: Any | None,
        timeout_s: float,
        on_version: Callable[[int], None] = lambda version: None,
        node: str = "",
    ) -> None:
        self._engine = engine
        self._replica = replica
        self._store = store
        self._timeout_s = timeout_s
        self._on_version = on_version
        self._node = node
        self._broken: str | None = None
        self._updating = asyncio.Lock()
        self._overdue: asyncio.TimerHandle | None = None
        self.asleep = False
        self.report = ReplicaReport(replica=replica, version=0, checksum=None)

    async def start(self) -> None:
        """Label the weights as version 0, and take the current version if one was published."""
        await self._engine.label(0)
        self._on_version(0)
        await self._pull_current()

    async def reach(self, min_version: int) -> None:
        """Hold at least ``min_version``, pulling the current version if need be.

        Raises:
            StaleReplicaError: there is nothing newer to be had.
            BrokenReplicaError: the weights are unsound.
        """
        self.refuse_if_broken()
        if self.report["version"] >= min_version:
            return
        await self._pull_current()
        if self.report["version"] < min_version:
            raise StaleReplicaError(
                f"replica {self._replica} holds policy version {self.report['version']}, the request wants "
                f"{min_version} or newer, and "
                + (
                    "the policy store has none: publish it first"
                    if self._store
                    else "nothing to pull it from"
                )
            )

    async def load(self, version: int) -> None:
        """Pull ``version`` and replace the weights by it, unless they are that version already.

        Raises:
            ValueError: there is no store to pull from.
            BrokenReplicaError: the weights are unsound.
            TimeoutError: the store, or the engine, takes too long; the engine's weights are unsound then.
        """
        if self._store is None:
            raise ValueError("it has no policy store to pull from (policy_store, transfer: object_store)")
        await self._install(await self._wait(self._store.get.remote(version)))

    async def connect(self, init_info: dict[str, Any]) -> None:
        """Join the learner's transfer group.

        Args:
            init_info: of the learner, for vLLM's transfer engine.

        Raises:
            BrokenReplicaError: the weights are unsound.
            TimeoutError: the group does not come together in time.
        """
        self.refuse_if_broken()
        with ends_with_engine(_SERVICE):
            async with limit(self._timeout_s, "the learner's transfer group"):
                await self._engine.init_transfer(init_info)

    async def begin(self) -> None:
        """Pause and open the weights for a push, which has ``timeout_s`` to end.

        Raises:
            BrokenReplicaError: the weights are unsound.
            RuntimeError: the update before was not ended.
            TimeoutError: the engine takes too long; its weights are unsound then, as after any other fault
                of its own.
        """
        async with self._updating:
            self.refuse_if_broken()
            if self._overdue is not None:
                raise RuntimeError("the update before was begun and not ended")
            overdue = f"the learner did not end its update within {self._timeout_s:g} s"
            await self._awake()
            self._overdue = asyncio.get_running_loop().call_later(self._timeout_s, self._break, overdue)
            await self._guard("opening the weights", self._engine.begin_update())

    async def receive(self, update_info: dict[str, Any]) -> None:
        """Take what the learner pushes.

        Args:
            update_info: of the learner: which parameters come.

        Raises:
            BrokenReplicaError, TimeoutError: see `begin`.
        """
        self.refuse_if_broken()
        await self._guard("receiving weights", self._engine.receive(update_info))

    async def end(self, version: int) -> None:
        """Close the weights as ``version``.

        Raises:
            BrokenReplicaError, TimeoutError: see `begin`.
        """
        async with self._updating:
            self.refuse_if_broken()
            await self._guard(f"closing policy version {version}", self._engine.end_update(version))
            if self._overdue is not None:
                self._overdue.cancel()
                self._overdue = None
            self._hold(version, None)

    async def sleep(self) -> None:
        """Give back the GPU's memory; a new version, or `wake`, takes it again.

        Raises:
            BrokenReplicaError, RuntimeError, TimeoutError: see `begin`.
        """
        async with self._updating:
            self.refuse_if_broken()
            if self._overdue is not None:
                raise RuntimeError("an update was begun and not ended")
            if not self.asleep:
                self.asleep = True
                await self._guard("falling asleep", self._engine.sleep())

    async def wake(self) -> None:
        """Take the memory again, with the weights from before.

        Raises:
            BrokenReplicaError, TimeoutError: see `begin`.
        """
        async with self._updating:
            self.refuse_if_broken()
            await self._awake()

    def refuse_if_broken(self) -> None:
        """Nothing is done with unsound weights.

        Raises:
            BrokenReplicaError: they are.
        """
        if self._broken is not None:
            raise BrokenReplicaError(
                f"replica {self._replica} has unsound weights and will be replaced: {self._broken}"
            )

    async def _pull_current(self) -> None:
        if self._store is None:
            return
        publication = await self._wait(self._store.current.remote())
        if publication is not None:
            await self._install(publication)

    async def _install(self, publication: Publication) -> None:
        # In a task of its own: the request that happened to cause it may be cancelled, the update must not.
        await asyncio.shield(asyncio.create_task(self._install_once(publication)))

    async def _install_once(self, publication: Publication) -> None:
        async with self._updating:
            self.refuse_if_broken()
            assert self._store is not None
            version, checksum = publication.version, publication.checksum
            if (self.report["version"], self.report["checksum"]) == (version, checksum):
                return
            await self._awake()
            path = await self._wait(self._store.path.remote(version, self._node))
            if not isinstance(path, str):  # it is being fetched from another node
                path = await self._wait(path)
            await asyncio.to_thread(check, path, version, checksum)
            await self._guard(f"loading policy version {version}", self._replace(version, path))
            self._hold(version, checksum)

    async def _awake(self) -> None:
        if self.asleep:
            await self._guard("waking up", self._engine.wake())
            self.asleep = False

    def _hold(self, version: int, checksum: str | None) -> None:
        self.report = ReplicaReport(replica=self._replica, version=version, checksum=checksum)
        self._on_version(version)

    async def _replace(self, version: int, path: str) -> None:
        await self._engine.begin_update()
        try:
            await self._engine.receive({"path": path})
        except Exception as error:
            if not await asyncio.to_thread(os.path.exists, path):  # vLLM's processes opened it, or did not
                raise LostImageError.at(path) from error
            raise
        await self._engine.end_update(version)

    async def _guard(self, what: str, change: Any) -> None:
        """Await a change of the weights; whatever ends it early leaves them unsound."""
        try:
            async with limit(self._timeout_s, what):
                await change
        except EngineLostError as error:
            end_with_engine(_SERVICE, error)
        except BaseException as error:
            self._break(f"{what} failed: {error}")
            raise

    def _break(self, reason: str) -> None:
        self._broken = reason
        self._engine.shutdown()

    async def _wait(self, answer: Any) -> Any:
        async with limit(self._timeout_s, "the policy store"):
            return await answer
