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

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypedDict

import blake3
import numpy as np
import ray

from services.base.asking import answer_of
from services.serve.everyone import EveryoneError, ask_everyone
from services.weights.image import PART_BYTES, OpenImage
from services.weights.policy_store import Publication, policy_store

if TYPE_CHECKING:
    import torch
    from ray.serve.handle import DeploymentHandle

    from rlad_core.language_model.image import ImageLayout
    from services.weights.gathered import GatheredWeights


class ReplicaReport(TypedDict):
    """What a replica serves with: ``checksum`` is None while it has the weights of its model folder."""

    replica: str
    version: int
    checksum: str | None


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
        UnknownVersionError: the store was lost meanwhile, and began anew.
    """
    # Here, because the store and the replicas have no use for torch.
    import torch

    from rlad_core.language_model.image import ImageLayout, tensor_bytes
    from services.weights.gathered import StateDict

    store = policy_store(store_name)

    def answer(reference: Any) -> Any:
        what = f"the policy store {store_name!r} to take version {version}"
        return answer_of(reference, timeout_s=timeout_s, what=what)

    coming = StateDict(weights) if isinstance(weights, Mapping) else weights
    layout = ImageLayout(coming.specs())
    node, path = answer(store.begin.remote(version, layout.num_bytes))
    with ExitStack() as held:
        if node == ray.get_runtime_context().get_node_id():
            image = held.enter_context(OpenImage(path, writable=True))

            def put(start: int, tensor: torch.Tensor, dtype: torch.dtype) -> memoryview:
                # Narrowed on its way: memory is gone through once.
                place = image.bytes[start : start + tensor.numel() * dtype.itemsize]
                torch.frombuffer(place, dtype=dtype).view(tensor.shape).copy_(tensor.detach())
                return place
        else:

            def put(start: int, tensor: torch.Tensor, dtype: torch.dtype) -> memoryview:
                part = tensor_bytes(tensor.to(dtype).cpu())
                for first in range(0, part.nbytes, PART_BYTES):
                    piece = np.frombuffer(part[first : first + PART_BYTES], dtype=np.uint8)
                    answer(store.write.remote(start + first, piece))
                return part

        checksum = _written(coming, layout, put)
    return answer(store.finish.remote(version, checksum))


def _written(
    weights: GatheredWeights,
    layout: ImageLayout,
    put: Callable[[int, torch.Tensor, torch.dtype], memoryview],
) -> str:
    """Put an image where it belongs, and count its checksum beside that.

    Args:
        put: takes the first byte, a tensor, and the precision that it has there; gives back its bytes.
    """
    import torch

    checksum = blake3.blake3()
    with ThreadPoolExecutor(1) as counter:
        header = torch.frombuffer(bytearray(layout.header), dtype=torch.uint8)
        counted = counter.submit(checksum.update, put(0, header, torch.uint8))
        for name, tensor in weights.unnarrowed():
            part = put(layout.start(name), tensor, layout.specs[name].dtype)
            counted.result()
            counted = counter.submit(checksum.update, part)
        counted.result()
    return checksum.hexdigest()


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
        EveryoneError: naming the replicas that failed, or saying how many did not report in time.
    """
    reports: list[ReplicaReport] = ask_everyone(
        handle,
        "update_weights",
        version,
        who="rollout replicas",
        what=f"load policy version {version}",
        expected=expected_replicas,
        timeout_s=timeout_s,
    )
    _check_same_weights(reports, version)
    return reports


def _check_same_weights(reports: list[ReplicaReport], version: int) -> None:
    wrong = [report for report in reports if report["version"] != version]
    if wrong or len({report["checksum"] for report in reports}) > 1:
        raise EveryoneError(
            f"replicas should serve one and the same policy version {version} and report: "
            + ", ".join(f"{r['replica']}: version {r['version']}, checksum {r['checksum']}" for r in reports)
        )
