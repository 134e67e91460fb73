"""The actor that holds published policy versions, on its own node and, fetched once, on others."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from services.base.asking import answer_of
from services.base.losses import LossError
from services.serve.cluster import NAMESPACE
from services.weights.image import PART_BYTES, Image, OpenImage

PART_S = 120.0
"""Longest wait for what travels at a time between nodes."""
_GONE_S, _LOOK_S = 60.0, 0.1


class UnknownVersionError(LossError, LookupError):
    """The store does not hold the version that was asked for, or that is to be finished.

    A loss, for it had it before: it was lost, and is there again with nothing in it.
    """


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
        """Bytes of the version that was begun, from a learner on another node.

        Raises:
            UnknownVersionError: none was begun.
        """
        if self._coming is None:
            raise UnknownVersionError("no policy version was begun here; publish it again")
        self._coming[2].bytes[start : start + part.nbytes] = part.data

    def finish(self, version: int, checksum: str) -> Publication:
        """Make the version that was begun the current one.

        A number seen before is replaced: a run resumed from a checkpoint publishes it again.

        Raises:
            UnknownVersionError: it was not begun.
        """
        if self._coming is None or self._coming[0] != version:
            raise UnknownVersionError(f"policy version {version} was not begun here; publish it again")
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
        """Where the version lies on this node; fetches it if it is not here.

        Raises:
            TimeoutError: a part of it did not come within `PART_S`.
        """
        key = publication.version, publication.checksum
        if key not in self._images:
            for old in list(self._images)[:-1]:
                self._images.pop(old).close()
            image = Image(f"policy version {publication.version}", publication.num_bytes)
            try:
                self._fetch(publication, image)
            except BaseException:
                image.close()
                raise
            self._images[key] = image
        return self._images[key].path

    def _fetch(self, publication: Publication, image: Image) -> None:
        with OpenImage(image.path, writable=True) as opened:
            for start in range(0, publication.num_bytes, PART_BYTES):
                end = min(start + PART_BYTES, publication.num_bytes)
                part = answer_of(
                    self._store.read.remote(publication.version, start, end),
                    timeout_s=PART_S,
                    what=f"a part of policy version {publication.version} from the policy store's node",
                )
                opened.bytes[start:end] = part.data


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
    """End the store, if there is one, and free its versions.

    Raises:
        TimeoutError: its name is not free again.
    """
    deadline = time.monotonic() + _GONE_S
    with suppress(ValueError):  # there is none, any more
        while time.monotonic() < deadline:
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))
            time.sleep(_LOOK_S)
        raise TimeoutError(f"waited {_GONE_S:g} s for the policy store {name!r} to end")


def _roomiest_node() -> str:
    alive = [node for node in ray.nodes() if node["Alive"]]
    return max(alive, key=lambda node: node["Resources"].get("memory", 0.0))["NodeID"]
