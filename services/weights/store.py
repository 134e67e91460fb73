"""Publishing a policy version, and making sure that every rollout replica has it.

    learner, rank 0                 PolicyStore (named actor)            rollout replicas
    begin(version, bytes) --------> an empty image in memory
    tensor by tensor -------------> its place there
    finish(version, checksum) ----> the current version
    sync(handle, version) ------------------ broadcast ----------------> update_weights(version)
                                    path(version, node) <--------------- map, check, load in place
                                                   --------------------> report version and checksum

A version is the whole state dict as one safetensors image (`services.weights.image`): names, shapes, dtypes
and offsets are its header, and the checksum is the BLAKE3 of all of it. The store holds the image, so it
outlives the learner process that wrote it, and keeps one version beside the one being taken. A learner on the
store's node writes straight into it, another one sends parts. All replicas of a node map one image: the
store's, or on another node one that is fetched once. Replicas pull by version: when told to (``sync``), when
they start, and when a request asks for a newer version than they have. So neither a missed broadcast nor a
restart can leave a replica serving old weights.

The store is not the origin of the weights, the learner's checkpoint is: after losing the store,
publishing again repairs it, and until then requests for that version fail instead of using another one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

import blake3
import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from services.serve.cluster import NAMESPACE
from services.weights.image import PART_BYTES, Image, OpenImage

if TYPE_CHECKING:
    import torch
    from ray.serve.handle import DeploymentHandle

    from services.weights.gathered import GatheredWeights


class WeightSyncError(RuntimeError):
    """Not every replica has the published version; the message names those without it."""


class UnknownVersionError(LookupError):
    """The store does not hold the version that was asked for."""


@dataclass(frozen=True)
class Publication:
    """A policy version in the store.

    Args:
        version: number of learner updates behind it, as the learner counts them.
        checksum: BLAKE3 of the safetensors image, hexadecimal.
        num_bytes: size of the image.
    """

    version: int
    checksum: str
    num_bytes: int


class ReplicaReport(TypedDict):
    """What a replica serves with: ``checksum`` is None while it has the weights of its model folder."""

    replica: str
    version: int
    checksum: str | None


class PolicyStore:
    """Actor that holds the published versions. Reached by name through `policy_store`."""

    def __init__(self) -> None:
        self._publications: dict[int, Publication] = {}
        self._images: dict[int, Image] = {}
        self._coming: tuple[int, Image, OpenImage] | None = None
        self._copies: dict[str, Any] = {}

    def begin(self, version: int, num_bytes: int) -> tuple[str, str]:
        """Make room for a version beside the current one; older ones are dropped.

        Returns:
            ``(node, path)``: where its bytes belong, for a learner on this node.

        Raises:
            MemoryError: the node has too little left.
        """
        self._drop_coming()
        for old in list(self._publications)[:-1]:
            self._drop(old)
        image = Image(f"policy version {version}", num_bytes)
        self._coming = version, image, OpenImage(image.path, writable=True)
        return ray.get_runtime_context().get_node_id(), image.path

    def write(self, start: int, part: np.ndarray) -> None:
        """Bytes of the version that was begun, from a learner on another node."""
        assert self._coming is not None
        self._coming[2].bytes[start : start + part.nbytes] = part.data

    def finish(self, version: int, checksum: str) -> Publication:
        """Make the version that was begun the current one.

        A number seen before is replaced: a run resumed from a checkpoint publishes it again.
        """
        if self._coming is None or self._coming[0] != version:
            raise RuntimeError(f"policy version {version} was not begun here; publish it again")
        _, image, opened = self._coming
        num_bytes = opened.bytes.nbytes
        opened.__exit__()
        self._coming = None
        self._drop(version)
        self._images[version] = image
        self._publications[version] = Publication(version, checksum, num_bytes)
        return self._publications[version]

    def current(self) -> Publication | None:
        """The version published last, or None before the first."""
        return next(reversed(self._publications.values()), None)

    def get(self, version: int) -> Publication:
        """The publication of ``version``.

        Raises:
            UnknownVersionError: if it was never published, or is no longer kept.
        """
        if version not in self._publications:
            raise UnknownVersionError(
                f"policy version {version} is not in the store, which holds {sorted(self._publications)}; "
                "publish it again from the learner's checkpoint"
            )
        return self._publications[version]

    def path(self, version: int, node: str) -> Any:
        """Where replicas on a node find the image: a path, or a reference to one that is being fetched."""
        publication = self.get(version)
        if node == ray.get_runtime_context().get_node_id():
            return self._images[version].path
        if node not in self._copies:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            options = {"num_cpus": 0, "scheduling_strategy": there, "max_restarts": -1}
            me = ray.get_runtime_context().current_actor
            self._copies[node] = ray.remote(NodeCopy).options(**options).remote(me)
        return self._copies[node].path.remote(publication)

    def read(self, version: int, start: int, end: int) -> np.ndarray:
        """Bytes of an image, for another node."""
        self.get(version)
        with OpenImage(self._images[version].path) as image:
            return np.frombuffer(bytes(image.bytes[start:end]), dtype=np.uint8)

    def _drop(self, version: int) -> None:
        if version in self._images:
            self._images.pop(version).close()
            del self._publications[version]

    def _drop_coming(self) -> None:
        if self._coming is not None:
            self._coming[2].__exit__()
            self._coming[1].close()
            self._coming = None


class NodeCopy:
    """Actor that holds the versions of a store on another node, fetched once for all of its replicas."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._images: dict[tuple[int, str], Image] = {}

    def path(self, publication: Publication) -> str:
        """Where the version lies on this node; fetches it if it is not here."""
        key = publication.version, publication.checksum
        if key not in self._images:
            for old in list(self._images)[:-1]:
                self._images.pop(old).close()
            image = Image(f"policy version {publication.version}", publication.num_bytes)
            with OpenImage(image.path, writable=True) as opened:
                for start in range(0, publication.num_bytes, PART_BYTES):
                    end = min(start + PART_BYTES, publication.num_bytes)
                    part = ray.get(self._store.read.remote(publication.version, start, end))
                    opened.bytes[start:end] = part.data
            self._images[key] = image
        return self._images[key].path


def policy_store(name: str) -> ray.actor.ActorHandle:
    """The store called ``name``; starts it where there is none yet.

    Detached, because the first to ask may be a replica or a learner, and the versions must outlive both.
    It goes to the node with the most memory: a head node often has little. `close_store` ends it.
    """
    return (
        ray.remote(PolicyStore)
        .options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(_roomiest_node(), soft=True),
        )
        .remote()
    )


def close_store(name: str) -> None:
    """End the store and free its versions."""
    ray.kill(policy_store(name))


def _roomiest_node() -> str:
    alive = [node for node in ray.nodes() if node["Alive"]]
    return max(alive, key=lambda node: node["Resources"].get("memory", 0.0))["NodeID"]


def publish(
    store_name: str,
    version: int,
    weights: GatheredWeights | Mapping[str, torch.Tensor],
    timeout_s: float = 120.0,
) -> Publication:
    """Put a policy version into the store; called by one process, usually the learner's rank 0.

    Nothing is held here but the tensor that is being written.

    Args:
        store_name: see `policy_store`.
        version: see `Publication`.
        weights: every parameter under its Hugging Face name, whole (not sharded), on any device.
        timeout_s: limit for each answer of the store.

    Raises:
        TimeoutError: if the store did not answer.
        MemoryError: the store's node has too little memory left.
    """
    # Here, because the store and the replicas have no use for torch.
    from rlad_core.language_model.image import ImageLayout, tensor_bytes
    from services.weights.gathered import StateDict

    store = policy_store(store_name)

    def answer(reference: Any) -> Any:
        try:
            return ray.get(reference, timeout=timeout_s)
        except GetTimeoutError as error:
            raise TimeoutError(
                f"waited {timeout_s:g} s for the policy store {store_name!r} to take version {version}"
            ) from error
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, MemoryError) else error from None

    coming = StateDict(weights) if isinstance(weights, Mapping) else weights
    layout = ImageLayout(coming.specs())
    node, path = answer(store.begin.remote(version, layout.num_bytes))
    checksum = blake3.blake3(layout.header)
    with ExitStack() as held:
        if node == ray.get_runtime_context().get_node_id():
            image = held.enter_context(OpenImage(path, writable=True))

            def put(start: int, part: memoryview) -> None:
                image.bytes[start : start + part.nbytes] = part
        else:

            def put(start: int, part: memoryview) -> None:
                for first in range(0, part.nbytes, PART_BYTES):
                    piece = np.frombuffer(part[first : first + PART_BYTES], dtype=np.uint8)
                    answer(store.write.remote(start + first, piece))

        put(0, memoryview(layout.header))
        for name, tensor in coming:
            part = tensor_bytes(tensor.cpu())
            put(layout.start(name), part)
            checksum.update(part)
    return answer(store.finish.remote(version, checksum.hexdigest()))


def sync(
    handle: DeploymentHandle, version: int, expected_replicas: int, timeout_s: float = 300.0
) -> list[ReplicaReport]:
    """Have every rollout replica load ``version`` and report it.

    A replica that Serve is just restarting gives no report; it is waited for until ``timeout_s`` is over
    (it pulls the current version by itself, and its report proves that). A replica that answers with an
    error ends the wait at once: trying again would not help.

    Args:
        handle: of the rollout deployment.
        version: published before, see `publish`.
        expected_replicas: how many replicas must report.
        timeout_s: limit for all of it.

    Raises:
        WeightSyncError: naming the replicas that failed, or saying how many did not report in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        reports, silent = _broadcast_update(handle, version, max(1.0, deadline - time.monotonic()))
        if len(reports) >= expected_replicas and not silent:
            _check_same_weights(reports, version)
            return reports
        if time.monotonic() + _RETRY_PAUSE_S > deadline:
            names = ", ".join(report["replica"] for report in reports) or "none"
            raise WeightSyncError(
                f"waited {timeout_s:g} s for {expected_replicas} rollout replicas to load policy version "
                f"{version}; {len(reports)} did ({names})" + "".join(f"; {reason}" for reason in silent)
            )
        time.sleep(_RETRY_PAUSE_S)


_RETRY_PAUSE_S = 0.5


def _broadcast_update(
    handle: DeploymentHandle, version: int, timeout_s: float
) -> tuple[list[ReplicaReport], list[str]]:
    """One broadcast: the reports, and for each replica without one the reason."""
    try:
        answers = handle.broadcast("update_weights", version).results(
            timeout_s=timeout_s, return_exceptions=True
        )
    except (DeploymentUnavailableError, TimeoutError) as error:
        return [], [f"{type(error).__name__}: {error}"]
    reports = [cast(ReplicaReport, answer) for answer in answers if isinstance(answer, dict)]
    silent = [answer for answer in answers if isinstance(answer, RayActorError | TimeoutError)]
    failed = [answer for answer in answers if isinstance(answer, Exception) and answer not in silent]
    if failed:
        raise WeightSyncError(
            f"{len(failed)} of {len(answers)} rollout replicas could not load policy version {version}: "
            + "; ".join(reason(error) for error in failed)
        ) from failed[0]
    return reports, [f"{type(error).__name__}: {reason(error)}" for error in silent]


def reason(error: Exception) -> str:
    """What a replica's error says, without the stack of the process it happened in."""
    return str(error.cause if isinstance(error, RayTaskError) else error)


def _check_same_weights(reports: list[ReplicaReport], version: int) -> None:
    wrong = [report for report in reports if report["version"] != version]
    if wrong or len({report["checksum"] for report in reports}) > 1:
        raise WeightSyncError(
            f"replicas should serve one and the same policy version {version} and report: "
            + ", ".join(f"{r['replica']}: version {r['version']}, checksum {r['checksum']}" for r in reports)
        )
