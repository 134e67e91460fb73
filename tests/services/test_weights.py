"""New weights in running vLLM engines: the right ones, everywhere, without dropping a request."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest
import ray
import torch
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import DeploymentUnavailableError
from rollout_service import (
    TOLERANCE,
    StartedRollouts,
    difference,
    prompts,
    reference_logprobs,
    start_rollouts,
)
from safetensors.torch import load_file

from rlad_core.language_model.image import ImageLayout, tensor_bytes
from services.rollout.settings import SamplingSettings
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
from services.weights.push import ReplicaGroup, WeightPush, place_in_group
from services.weights.store import ReplicaReport, WeightSyncError, publish, sync

# The first test to want the engines waits for their start, about 30 s each on an idle core.
pytestmark = pytest.mark.timeout(900)

SAMPLING = SamplingSettings(group_size=2, max_tokens=24, seed=5)

TENSOR_GROUPS = {
    "embedding": "embed_tokens",
    "head": "lm_head",
    "attention": "self_attn",
    "mlp": "mlp.",
    "norms": "norm",
}
VISIBLE = 0.1
"""A change this large in some log-prob cannot be rounding."""


@pytest.fixture(scope="module")
def untied(ray_cluster: None, untied_tiny_model) -> Iterator[StartedRollouts]:
    """One replica of the untied tiny model."""
    with start_rollouts("untied", untied_tiny_model, num_replicas=1) as started:
        yield started


def change(rollouts: StartedRollouts, part: str = "") -> None:
    """Move the parameters whose name contains ``part``."""
    with torch.no_grad():
        for name, parameter in rollouts.policy.named_parameters():
            if part in name:
                parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.mark.slow
@pytest.mark.parametrize("group", ["embedding", "attention", "mlp", "norms"])
def test_every_replica_has_every_changed_tensor_group_tied(rollouts: StartedRollouts, group: str) -> None:
    _check_group(rollouts, group)


@pytest.mark.slow
@pytest.mark.parametrize("group", list(TENSOR_GROUPS))
def test_every_replica_has_every_changed_tensor_group_untied(untied: StartedRollouts, group: str) -> None:
    _check_group(untied, group)


def _check_group(rollouts: StartedRollouts, group: str) -> None:
    before = rollouts.generate(prompts(4), SAMPLING)
    change(rollouts, TENSOR_GROUPS[group])
    assert difference(rollouts.policy, before) > VISIBLE, "the change must be one that shows"
    version = rollouts.publish_and_sync()
    for table in rollouts.generate_everywhere(prompts(4), SAMPLING, version):
        assert difference(rollouts.policy, table) < TOLERANCE
        assert {v for versions in table["policy_versions"].to_pylist() for v in versions} == {version}


@pytest.mark.slow
def test_running_responses_go_on_with_the_new_weights(rollouts: StartedRollouts) -> None:
    """Tokens from before the update have the old policy's log-probs, those after it the new one's."""
    old = rollouts.publish_and_sync()
    old_policy = type(rollouts.policy)(rollouts.policy.config)
    old_policy.load_state_dict(rollouts.policy.state_dict())
    long = SamplingSettings(group_size=4, max_tokens=220, seed=5)
    call = rollouts.handle.generate.remote(prompts(16, prefix="running"), long)
    _wait_until(lambda: sum(rollouts.broadcast("unfinished")) > 0, "the responses to be in work")
    change(rollouts)
    new = rollouts.publish_and_sync()
    rows = call.result(timeout_s=120).to_pylist()
    assert len(rows) == 64
    mixed = [row for row in rows if len(set(row["policy_versions"])) == 2]
    assert mixed, "no response was running during the update"
    for row in mixed[:8]:
        versions = np.asarray(row["policy_versions"])
        assert set(versions) == {old, new}
        assert np.all(np.diff(versions) >= 0)
        expected = np.where(
            versions == old, reference_logprobs(old_policy, row), reference_logprobs(rollouts.policy, row)
        )
        assert np.abs(expected - np.asarray(row["rollout_logprobs"])).max() < TOLERANCE


@pytest.mark.slow
def test_a_replica_that_missed_the_update_pulls_it_before_it_serves(rollouts: StartedRollouts) -> None:
    change(rollouts)
    version = rollouts.publish().version
    assert all(report["version"] < version for report in rollouts.broadcast("policy_version"))
    for table in rollouts.generate_everywhere(prompts(4), SAMPLING, version):
        assert difference(rollouts.policy, table) < TOLERANCE


@pytest.mark.slow
def test_a_version_nobody_published_is_not_served(rollouts: StartedRollouts) -> None:
    with pytest.raises(
        RuntimeError, match="the request wants 1000000 or newer, and the policy store has none"
    ):
        rollouts.generate(prompts(1), SAMPLING, min_version=1_000_000)


@pytest.mark.slow
def test_a_resumed_run_goes_back_to_an_older_version(rollouts: StartedRollouts) -> None:
    ahead = rollouts.publish_and_sync()
    change(rollouts)
    publication = publish(rollouts.store, ahead - 1, rollouts.policy.state_dict())
    reports = sync(rollouts.handle, ahead - 1, rollouts.num_replicas)
    assert {report["checksum"] for report in reports} == {publication.checksum}
    assert difference(rollouts.policy, rollouts.generate(prompts(4), SAMPLING)) < TOLERANCE


@pytest.mark.slow
def test_pushed_weights_take_the_same_way_through_serve(rollouts: StartedRollouts) -> None:
    """vLLM's three calls of a push, on every replica; only the transport is another one here."""
    change(rollouts)
    publication = rollouts.publish()
    path = _path(rollouts.store, publication)
    replicas = ReplicaGroup(rollouts.handle, rollouts.num_replicas, timeout_s=60)
    replicas.version = publication.version
    replicas.start_weight_update()
    replicas.update_weights({"path": path})
    replicas.finish_weight_update()
    assert [report["version"] for report in replicas.reports] == [publication.version] * rollouts.num_replicas
    for table in rollouts.generate_everywhere(prompts(4), SAMPLING, publication.version):
        assert difference(rollouts.policy, table) < TOLERANCE


@pytest.mark.slow
def test_replicas_that_died_come_back_with_the_current_version(rollouts: StartedRollouts) -> None:
    change(rollouts)
    version = rollouts.publish_and_sync()
    before = _present(rollouts)
    long = SamplingSettings(group_size=8, max_tokens=220, seed=0)
    # Work for either replica, wherever Serve sends the calls: on a busy machine it may shun one of the two.
    rollouts.handle.broadcast("generate", prompts(8, prefix="everywhere"), long)
    calls = [rollouts.handle.generate.remote(prompts(8, prefix=f"lost{i}"), long) for i in range(12)]
    _wait_until(lambda: min(rollouts.broadcast("unfinished")) > 0, "both engines to be at work")
    # One replica loses its engine, of the other one the replica itself is killed.
    first, second = _engine_processes()
    first.kill()
    second.parent().kill()
    for call in calls:
        with pytest.raises(ActorDiedError):  # at once, so that callers can ask again
            call.result(timeout_s=60)
    _wait_until(lambda: not second.is_running(), "the engine to end with its replica")
    _wait_until(lambda: len(_present(rollouts) - before) == 2, "Serve to start two replicas", timeout_s=600)
    for report in rollouts.broadcast("policy_version"):
        assert report["version"] == version
    for table in rollouts.generate_everywhere(prompts(4), SAMPLING):
        assert difference(rollouts.policy, table) < TOLERANCE


@pytest.mark.slow
def test_an_incomplete_version_is_reported_and_never_served(untied: StartedRollouts) -> None:
    incomplete = {k: v for k, v in untied.policy.state_dict().items() if "layers.1.mlp.down_proj" not in k}
    version = next(untied.versions)
    publish(untied.store, version, incomplete)
    with pytest.raises(WeightSyncError, match=r"replica \w+ could not load .*model.layers.1.mlp.down_proj"):
        sync(untied.handle, version, untied.num_replicas, timeout_s=60)
    with pytest.raises(RuntimeError, match="unsound weights"):
        untied.generate(prompts(1), SAMPLING)


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


# What `sync` makes of the replicas' answers


class Handle:
    """Stands for a deployment handle: one list of answers per broadcast, the last one again and again."""

    def __init__(self, *rounds: list[object]) -> None:
        self._rounds = list(rounds)

    def broadcast(self, *_: object) -> "Handle":
        return self

    def results(self, **_: object) -> list[object]:
        return self._rounds.pop(0) if len(self._rounds) > 1 else self._rounds[0]


def _report(replica: str, version: int = 3, checksum: str = "c") -> ReplicaReport:
    return ReplicaReport(replica=replica, version=version, checksum=checksum)


def test_sync_waits_for_a_replica_that_is_being_restarted() -> None:
    handle = Handle([_report("a")], [_report("a"), ActorDiedError()], [_report("a"), _report("b")])
    assert [report["replica"] for report in sync(handle, 3, 2, timeout_s=10)] == ["a", "b"]


def test_sync_says_who_reported_when_somebody_did_not() -> None:
    with pytest.raises(WeightSyncError, match=r"waited 0.2 s for 2 .* policy version 3; 1 did \(a\)"):
        sync(Handle([_report("a")]), 3, 2, timeout_s=0.2)


def test_sync_names_the_replica_that_failed_at_once() -> None:
    handle = Handle([_report("a"), RuntimeError("replica b could not load policy version 3: no room")])
    with pytest.raises(WeightSyncError, match=r"1 of 2 rollout replicas .* replica b could not load"):
        sync(handle, 3, 2, timeout_s=60)


def test_sync_refuses_replicas_that_disagree() -> None:
    with pytest.raises(WeightSyncError, match="b: version 3, checksum other"):
        sync(Handle([_report("a"), _report("b", checksum="other")]), 3, 2, timeout_s=1)


# Where an engine stands in the transfer group of a push


def test_nccl_ranks_are_the_learner_then_each_replica_s_workers() -> None:
    offsets = [
        place_in_group({"rank_offset": 1, "world_size": 7}, 2, ["a", "b", "c"], name)["rank_offset"]
        for name in ("a", "b", "c")
    ]
    assert offsets == [1, 3, 5]


def test_sharded_rdt_numbers_the_replicas() -> None:
    placed = place_in_group({"num_consumers": 4}, 2, ["a", "b"], "b")
    assert placed == {"num_consumers": 4, "replica_rank": 1, "num_replicas": 2}


def test_a_push_waits_for_a_replica_that_is_being_replaced() -> None:
    first = [_report("a"), _report("b")]
    rounds = [first, first, [_report("a"), ActorDiedError()], [_report("a")], [_report("a"), _report("c")]]
    replicas = ReplicaGroup(Handle(*rounds), 2, timeout_s=10)
    replicas.init_weight_transfer_engine({})
    assert replicas.changed_or_why_not() is True, "c has come in place of b"


def test_a_push_says_who_is_there_when_somebody_does_not_come_back() -> None:
    replicas = ReplicaGroup(Handle([_report("a"), RuntimeError("unsound")]), 2, timeout_s=0.1)
    assert "waited 0.1 s for 2 rollout replicas" in str(replicas.changed_or_why_not())
    assert "1 are there (a)" in str(replicas.changed_or_why_not())


class Sender:
    """Stands for vLLM's end of a transfer: asks the replicas to take what comes."""

    def __init__(self, push: WeightPush, taken: list[str]) -> None:
        self._push, self._taken = push, taken

    def send_weights(self) -> None:
        for number, (name, _) in enumerate(self._push._source):
            if number == 1:
                self._push._replicas.update_weights({})
            self._taken.append(name)
        self._push._replicas.finish_weight_update()

    def shutdown(self) -> None: ...


def test_an_update_that_a_replica_ends_early_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [_report("a"), _report("b")]
    handle = Handle([_report("a"), ActorDiedError()], both)
    weights = StateDict({"first": torch.ones(1), "second": torch.ones(2)})
    push = WeightPush(
        "nccl", weights, handle, num_replicas=2, workers_per_replica=1, namespace="", timeout_s=5
    )
    taken: list[str] = []
    monkeypatch.setattr(push, "_connect", lambda: setattr(push, "_sender", Sender(push, taken)))
    assert push.publish(3) == both
    assert taken == ["first", "first", "second"]


def test_a_push_that_does_not_reach_every_replica_stops_before_it_sends() -> None:
    replicas = ReplicaGroup(Handle([_report("a")]), 2, timeout_s=1)
    with pytest.raises(WeightSyncError, match=r"begin_update reached 1 of 2 rollout replicas \(a\)"):
        replicas.start_weight_update()


def _path(store: str, publication: Publication) -> str:
    node = ray.get_runtime_context().get_node_id()
    return ray.get(policy_store(store).path.remote(publication.version, node), timeout=30)


def _tensors(store: str, publication: Publication) -> dict[str, torch.Tensor]:
    path = _path(store, publication)
    check(path, publication.version, publication.checksum)
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _engine_processes() -> list[psutil.Process]:
    """Those of the `rollouts` fixture, started by this test session and not by another run on the machine."""
    replicas = [
        process
        for process in psutil.Process().children(recursive=True)
        if "ServeReplica:pair:" in " ".join(process.cmdline())
    ]
    return [child for replica in replicas for child in replica.children() if "EngineCore" in child.name()]


def _present(rollouts: StartedRollouts) -> set[str]:
    try:
        answers = rollouts.handle.broadcast("policy_version").results(timeout_s=60, return_exceptions=True)
    except DeploymentUnavailableError:
        return set()
    return {answer["replica"] for answer in answers if isinstance(answer, dict)}


def _wait_until(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.05)
