"""Publishing a policy version, and making sure that every rollout replica has it.

    learner, rank 0                 PolicyStore (named actor)            rollout replicas
    publish(version, tensors) ----> version -> object reference
    sync(handle, version) ------------------ broadcast ----------------> update_weights(version)
                                    fetch(version) <-------------------- pull, check, load in place
                                                   --------------------> report version and checksum

A version is the whole state dict as one safetensors image: names, shapes, dtypes and offsets are its
header, and the checksum is the SHA-256 of all of it. The store owns the image in Ray's object store, so it
outlives the learner process that wrote it, and keeps the last two versions. Replicas pull by version:
when told to (``sync``), when they start, and when a request asks for a newer version than they have.
So neither a missed broadcast nor a restart can leave a replica serving old weights.

The store is not the origin of the weights, the learner's checkpoint is: after losing the store,
publishing again repairs it, and until then requests for that version fail instead of using another one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError

from services.serve.cluster import NAMESPACE

if TYPE_CHECKING:
    import torch
    from ray.serve.handle import DeploymentHandle

RETAINED_VERSIONS = 2
"""The version being served and the one before it, which a replica may still be loading."""


class WeightSyncError(RuntimeError):
    """Not every replica has the published version; the message names those without it."""


class UnknownVersionError(LookupError):
    """The store does not hold the version that was asked for."""


@dataclass(frozen=True)
class Publication:
    """A policy version in the store.

    Args:
        version: number of learner updates behind it, as the learner counts them.
        checksum: SHA-256 of the safetensors image, hexadecimal.
        num_bytes: size of the image.
        image: reference to the image, a 1-D uint8 array.
    """

    version: int
    checksum: str
    num_bytes: int
    image: ray.ObjectRef[np.ndarray]


class ReplicaReport(TypedDict):
    """What a replica serves with: ``checksum`` is None while it has the weights of its model folder."""

    replica: str
    version: int
    checksum: str | None


class PolicyStore:
    """Actor that holds the published versions. Reached by name through `policy_store`."""

    def __init__(self) -> None:
        self._publications: dict[int, Publication] = {}

    def add(self, version: int, checksum: str, image: np.ndarray) -> Publication:
        """Make ``image`` the current version.

        A number seen before is replaced: a run resumed from a checkpoint publishes it again. The image is
        put into the object store here, since an object dies with the process that put it there, and the
        learner may be restarted at any time.
        """
        publication = Publication(version, checksum, image.nbytes, ray.put(image))
        self._publications.pop(version, None)
        self._publications[version] = publication
        for old in list(self._publications)[:-RETAINED_VERSIONS]:
            del self._publications[old]
        return publication

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


def policy_store(name: str) -> ray.actor.ActorHandle:
    """The store called ``name``; starts it where there is none yet.

    Detached, because the first to ask may be a replica or a learner, and the versions must outlive both.
    `close_store` ends it.
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
        )
        .remote()
    )


def close_store(name: str) -> None:
    """End the store and free its versions."""
    ray.kill(policy_store(name))


def publish(
    store_name: str, version: int, state_dict: Mapping[str, torch.Tensor], timeout_s: float = 120.0
) -> Publication:
    """Put a policy version into the store; called by one process, usually the learner's rank 0.

    Args:
        store_name: see `policy_store`.
        version: see `Publication`.
        state_dict: every parameter under its Hugging Face name, whole (not sharded), on any device.
        timeout_s: limit for the store to take it.

    Raises:
        TimeoutError: if the store did not answer.
    """
    # Here, because the store and the replicas have no use for torch.
    from safetensors.torch import save

    image = np.frombuffer(save(_unshared(state_dict)), dtype=np.uint8)
    answer = policy_store(store_name).add.remote(version, hashlib.sha256(image.data).hexdigest(), image)
    try:
        return ray.get(answer, timeout=timeout_s)
    except GetTimeoutError as error:
        raise TimeoutError(
            f"waited {timeout_s:g} s for the policy store {store_name!r} to take version {version}"
        ) from error


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


def _unshared(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop a second name of the same memory (a tied head): safetensors stores each tensor once.

    The engine ties its own head, so the first name is enough.
    """
    seen: set[tuple[Any, ...]] = set()
    unshared = {}
    for name, tensor in state_dict.items():
        memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        if memory not in seen:
            seen.add(memory)
            unshared[name] = tensor.detach().contiguous()
    return unshared


def write_image(publication: Publication, image: np.ndarray) -> str:
    """Write a publication's image where an engine's workers can map it; the caller deletes the file.

    Returns:
        Its path.

    Raises:
        ValueError: if the image is not the one that was published.
    """
    found = hashlib.sha256(image.data).hexdigest()
    if found != publication.checksum:
        raise ValueError(
            f"policy version {publication.version} arrived with checksum {found}, "
            f"published was {publication.checksum}"
        )
    descriptor, path = tempfile.mkstemp(
        prefix="rlad-policy-", suffix=".safetensors", dir=_directory_for(image.nbytes)
    )
    with open(descriptor, "wb") as file:
        file.write(image.data)
    return path


def _directory_for(num_bytes: int) -> str:
    """Memory-backed where that leaves room (containers often get 64 MB of it), else on disk."""
    memory = "/dev/shm"
    if os.path.isdir(memory) and shutil.disk_usage(memory).free > 2 * num_bytes:
        return memory
    return tempfile.gettempdir()
