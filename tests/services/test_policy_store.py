"""The store of policy versions: what it keeps, for how long, and for whom."""

import asyncio
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file

from rlad_core.language_model.image import ImageLayout, tensor_bytes
from services.learner.whole_weights import WholeWeights
from services.weights.gathered import StateDict
from services.weights.image import OpenImage, check
from services.weights.policy_store import (
    NodeCopy,
    PolicyStore,
    Publication,
    UnknownVersionError,
    close_store,
    policy_store,
)
from services.weights.store import publish


@pytest.fixture(scope="module")
def store(ray_cluster: None) -> Iterator[str]:
    """Name of a store that no replica reads."""
    policy_store("unread")
    yield "unread"
    close_store("unread")


@pytest.mark.slow
def test_the_store_keeps_one_version_beside_the_one_being_taken(store: str) -> None:
    actor = policy_store(store)
    for version in (1, 2, 3):
        publish(store, version, {"weight": torch.full((4,), float(version))})
    assert ray.get(actor.current.remote()).version == 3
    assert _tensors(store, ray.get(actor.get.remote(2)))["weight"].tolist() == [2.0] * 4
    with pytest.raises(UnknownVersionError, match=r"version 1 is not in the store, which holds \[2, 3\]"):
        ray.get(actor.get.remote(1))
    ray.get(actor.begin.remote(4, 100))
    assert ray.get(actor.current.remote()).version == 3, "what is being taken is not there yet"
    with pytest.raises(UnknownVersionError, match=r"which holds \[3\]"):
        ray.get(actor.get.remote(2))


@pytest.mark.slow
def test_a_version_outlives_the_process_that_published_it(store: str) -> None:
    @ray.remote(num_cpus=0)
    class Learner:
        def publish(self) -> None:
            publish(store, 1, {"weight": torch.arange(4.0)})

    learner = Learner.remote()
    ray.get(learner.publish.remote())
    ray.kill(learner)
    publication = ray.get(policy_store(store).current.remote())
    assert _tensors(store, publication)["weight"].tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_version_is_narrowed_to_the_engines_precision(store: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    publication = publish(store, 1, WholeWeights(model, torch.bfloat16, torch.device("cpu")))
    found = _tensors(store, publication)
    for name, parameter in model.named_parameters():
        assert torch.equal(found[name], parameter.detach().to(torch.bfloat16)), name


@pytest.mark.slow
def test_a_tied_head_is_published_once(store: str) -> None:
    weight = torch.randn(4, 2)
    publication = publish(store, 1, {"embed.weight": weight, "head.weight": weight})
    assert list(_tensors(store, publication)) == ["embed.weight"]


@pytest.mark.slow
def test_a_damaged_image_is_not_loaded(store: str) -> None:
    publication = publish(store, 1, {"weight": torch.ones(4)})
    path = _path(store, publication)
    with OpenImage(path, writable=True) as image:
        image.bytes[-1] ^= 1
    with pytest.raises(ValueError, match="version 1 arrived with checksum"):
        check(path, 1, publication.checksum)


@pytest.mark.slow
def test_a_version_larger_than_the_node_s_memory_is_refused(store: str) -> None:
    with pytest.raises(MemoryError, match=r"policy version 9 takes .* GiB, and this node has"):
        publish(store, 9, {"weight": torch.ones(()).expand(2**45)})


class _Remote:
    """An actor's method without its process."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.remote = lambda *args: ray.put(function(*args))


@pytest.mark.slow
def test_another_node_fetches_a_version_once_for_all_its_replicas(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.weights.policy_store.PART_BYTES", 50)
    there = PolicyStore()
    image = {"a": torch.arange(40.0), "b": torch.ones(3)}
    layout = ImageLayout(StateDict(image).specs())
    there.begin(1, layout.num_bytes)
    for start, part in [
        (0, layout.header),
        *((layout.start(name), tensor_bytes(tensor)) for name, tensor in image.items()),
    ]:
        there.write(start, np.frombuffer(part, dtype=np.uint8))
    publication = there.finish(1, "checksum")
    asked: list[int] = []

    class Store:
        read = _Remote(lambda version, start, end: (asked.append(start), there.read(version, start, end))[1])

    node = NodeCopy(Store())
    path = node.path(publication)
    assert node.path(publication) == path
    assert asked == list(range(0, layout.num_bytes, 50))
    with OpenImage(path) as found, OpenImage(there._images[1].path) as expected:
        assert bytes(found.bytes) == bytes(expected.bytes)
    assert load_file(path)["a"].tolist() == list(range(40))


@pytest.mark.slow
def test_a_part_that_does_not_come_is_not_waited_for_for_ever(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.weights.policy_store.PART_S", 0.1)

    @ray.remote(num_cpus=0)
    class Silent:
        async def read(self, version: int, start: int, end: int) -> None:
            await asyncio.Event().wait()

    silent = Silent.remote()
    node = NodeCopy(silent)
    with pytest.raises(TimeoutError, match=r"waited 0\.1 s for a part of policy version 3"):
        node.path(Publication(3, "checksum", 100))
    assert node._images == {}
    ray.kill(silent)


def _path(store: str, publication: Publication) -> str:
    node = ray.get_runtime_context().get_node_id()
    return ray.get(policy_store(store).path.remote(publication.version, node), timeout=30)


def _tensors(store: str, publication: Publication) -> dict[str, torch.Tensor]:
    path = _path(store, publication)
    check(path, publication.version, publication.checksum)
    return {name: tensor.clone() for name, tensor in load_file(path).items()}
