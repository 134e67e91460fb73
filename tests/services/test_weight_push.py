"""What the learner makes of the replicas' answers to a new version, pulled or pushed."""

import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from ray.exceptions import ActorDiedError, RayTaskError
from torch.distributed import DistStoreError
from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerWeightTransferEngine

from services.base.losses import is_loss
from services.serve.everyone import EveryoneError
from services.weights import push as push_module
from services.weights.gathered import StateDict
from services.weights.held_policy import BrokenReplicaError
from services.weights.policy_store import UnknownVersionError
from services.weights.push import StuckGroupError, WeightPush, _source
from services.weights.replica_group import ReplicaGroup, place_in_group
from services.weights.store import ReplicaReport, sync


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
    with pytest.raises(EveryoneError, match=r"waited 0.2 s for 2 .* policy version 3; 1 did \(a\)"):
        sync(Handle([_report("a")]), 3, 2, timeout_s=0.2)


def test_sync_names_the_replica_that_failed_at_once() -> None:
    handle = Handle([_report("a"), RuntimeError("replica b could not load policy version 3: no room")])
    with pytest.raises(EveryoneError, match=r"1 of 2 rollout replicas .* replica b could not load"):
        sync(handle, 3, 2, timeout_s=60)


@pytest.mark.parametrize(("other", "loss"), [(None, True), (RuntimeError("no room"), False)])
def test_a_version_that_the_policy_store_has_lost_is_a_loss(other: Exception | None, loss: bool) -> None:
    lost = RayTaskError("update_weights", "Traceback ...", UnknownVersionError("not in the store"))
    with pytest.raises(EveryoneError, match="not in the store") as raised:
        sync(Handle([lost, other or lost]), 3, 2, timeout_s=60)
    assert is_loss(pickle.loads(pickle.dumps(raised.value))) is loss


def test_sync_refuses_replicas_that_disagree() -> None:
    with pytest.raises(EveryoneError, match="b: version 3, checksum other"):
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
    replicas = ReplicaGroup(Handle([_report("a")]), 2, timeout_s=0.1)
    said = str(replicas.changed_or_why_not())
    assert said == "waited 0.1 s for 2 rollout replicas to take part in an update; 1 did (a)"


def test_a_push_waits_for_broken_replicas_to_be_replaced_and_says_what_broke_them() -> None:
    broken = BrokenReplicaError("replica b has unsound weights and will be replaced: layer 3 was torn")
    with_b = [_report("a"), RayTaskError("policy_version", "Traceback ...", broken)]
    replicas = ReplicaGroup(Handle(with_b), 2, timeout_s=0.1)
    said = str(replicas.changed_or_why_not())
    assert said.startswith("waited 0.1 s for 2 rollout replicas to take part in an update; 1 did (a); ")
    assert said.endswith("replica b has unsound weights and will be replaced: layer 3 was torn")
    replicas = ReplicaGroup(Handle(with_b, [_report("a"), _report("c")]), 2, timeout_s=10)
    assert replicas.changed_or_why_not() is True


def test_what_a_replica_raises_by_itself_is_told_at_once() -> None:
    torn = RuntimeError("weights are unsound: layer 3 was torn")
    replicas = ReplicaGroup(Handle([torn, torn]), 2, timeout_s=600)
    said = "2 of 2 rollout replicas could not take part in an update: weights are unsound: layer 3 was torn"
    assert str(replicas.changed_or_why_not()).startswith(said)


def test_a_replica_too_many_is_no_member_of_a_group() -> None:
    replicas = ReplicaGroup(Handle([_report("a"), _report("b"), _report("c")]), 2, timeout_s=1)
    assert replicas.changed_or_why_not() == ("3 rollout replicas are there (a, b, c), and an update is for 2")


def test_no_group_is_begun_while_a_replica_cannot_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who begins one waits for all of its members, in vLLM."""
    handle = Handle([_report("a"), RuntimeError("layer 3 was torn")])
    push = _push(handle, timeout_s=0.1)
    monkeypatch.setattr(push, "_connect", lambda: pytest.fail("a group was begun"))
    with pytest.raises(EveryoneError, match=r"version 3 did not reach .* 1 of 2 .* layer 3 was torn"):
        push.publish(3)


def _push(handle: Handle, timeout_s: float) -> WeightPush:
    weights = StateDict({"first": torch.ones(1), "second": torch.ones(2)})
    return WeightPush(
        "nccl", weights, handle, num_replicas=2, workers_per_replica=1, namespace="", timeout_s=timeout_s
    )


BOTH: list[object] = [_report("a"), _report("b")]


class Receiving(Handle):
    """Both replicas are there; what comes of an update they answer as told, once something has been sent."""

    def __init__(self, *updates: list[object]) -> None:
        super().__init__(*updates)
        self.sent = threading.Event()
        self._method: object = None

    def broadcast(self, *told: object) -> "Receiving":
        self._method = told[0]
        return self

    def results(self, **_: object) -> list[object]:
        if self._method != "receive_weights":
            return BOTH
        assert self.sent.wait(30)
        return super().results()


class Group:
    """Stands for a communicator of NCCL: who waits in it is let go by `destroy` alone."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def destroy(self) -> None:
        self.ended.set()


class Sender(NCCLTrainerWeightTransferEngine):  # type: ignore[misc]
    """vLLM's end of a transfer, which asks the replicas in a thread; only the broadcast is another one.

    Args:
        taken: names of what is sent.
        after_first: what becomes of the broadcast after the first weight.
    """

    model_update_group: Any

    def __init__(
        self, push: WeightPush, taken: list[str], after_first: "Callable[[Sender], None] | None"
    ) -> None:
        super().__init__(client=push._replicas, source=push._source)
        self.model_update_group = Group()
        self.handle: Any = push._replicas._handle
        self._taken, self._after_first = taken, after_first

    def _broadcast(self, source: Any, meta: Any) -> None:
        for number, (name, _) in enumerate(self._checked_iter(source, meta)):
            self._taken.append(name)
            if number == 0 and self._after_first is not None:
                self._after_first(self)
            self.handle.sent.set()


def _sending(
    push: WeightPush, monkeypatch: pytest.MonkeyPatch, *attempts: Callable[[Sender], None] | None
) -> list[str]:
    """Names of what is sent, in attempts of which this becomes after the first weight."""
    left, taken = list(attempts), list[str]()

    def connect() -> None:
        push._replicas.init_weight_transfer_engine({})
        push._sender = Sender(push, taken, left.pop(0))

    monkeypatch.setattr(push, "_connect", connect)
    return taken


def _waits_for_the_lost(sender: Sender) -> None:
    ended = sender.model_update_group.ended
    sender.handle.sent.set()
    assert ended.wait(30), "the broadcast would never end"


def _is_told_of_its_end(sender: Sender) -> None:
    _waits_for_the_lost(sender)
    raise CUDA


CUDA = RuntimeError("CUDA error: unspecified launch failure")
NETWORK = RuntimeError("NCCL error: remote process exited or there was a network error")


@pytest.mark.parametrize("broadcast", [_waits_for_the_lost, _is_told_of_its_end])
@pytest.mark.parametrize("lost", [ActorDiedError(), RuntimeError("no room")], ids=["lost", "failed"])
def test_an_update_that_a_replica_ends_early_is_begun_anew(
    lost: Exception, broadcast: Callable[[Sender], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broadcast never learns of it by itself."""
    push, gathered = _push(Receiving([_report("a"), lost], BOTH), timeout_s=30), list[str]()

    class Weights(StateDict):
        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in super().__iter__():
                gathered.append(name)
                yield name, tensor

    push._source = _source(
        Weights({"first": torch.ones(1), "second": torch.ones(2)}), replicas=push._replicas
    )
    taken = _sending(push, monkeypatch, broadcast, None)
    assert push.publish(3) == BOTH
    assert taken == ["first", "first", "second"]
    assert gathered == ["first", "second"] * 2, "the other ranks gather all of it"


def test_nccl_s_word_that_a_replica_is_gone_may_come_before_serve_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve's is waited for: it is about this attempt, and would end the next one."""

    def first(sender: Sender) -> None:
        threading.Timer(0.5, sender.handle.sent.set).start()
        raise NETWORK

    push = _push(Receiving([ActorDiedError()], BOTH), timeout_s=30)
    taken = _sending(push, monkeypatch, first, None)
    assert push.publish(3) == BOTH
    assert taken == ["first", "first", "second"]


def test_a_fault_of_the_learner_s_own_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(sender: Sender) -> None:
        sender.handle.sent.set()
        raise CUDA

    push = _push(Receiving(BOTH), timeout_s=30)
    _sending(push, monkeypatch, own)
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        push.publish(3)


def _trainer_init(monkeypatch: pytest.MonkeyPatch, *attempts: Callable[[WeightPush], Any]) -> None:
    left = list(attempts)
    monkeypatch.setattr(WeightPush, "_init_info", lambda _: None)
    monkeypatch.setattr(
        WeightTransferTrainerFactory, "trainer_init", lambda *_, client, source: left.pop(0)(client)
    )


@pytest.mark.parametrize(
    "said",
    [
        DistStoreError("Timed out after 301 seconds waiting for clients. 1/3 clients joined."),
        NETWORK,
        RuntimeError("NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"),
    ],
    ids=["store", "nccl", "system"],
)
def test_a_group_that_does_not_come_about_is_made_anew(
    said: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    push, taken = _push(Receiving(BOTH), timeout_s=30), list[str]()

    def fails(_: object) -> Any:
        raise said

    _trainer_init(monkeypatch, fails, lambda _: Sender(push, taken, None))
    assert push.publish(3) == BOTH
    assert taken == ["first", "second"]


def test_a_group_that_nobody_can_end_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    push, never = _push(Receiving(BOTH), timeout_s=0.1), threading.Event()
    monkeypatch.setattr(push_module, "_RENDEZVOUS_S", 0.2)
    _trainer_init(monkeypatch, lambda _: never.wait(60))
    with pytest.raises(
        StuckGroupError, match=r"waited 0.2 s for the transfer group of the learner"
    ) as raised:
        push.publish(3)
    assert is_loss(raised.value)
    never.set()


def test_a_push_that_does_not_reach_every_replica_stops_before_it_sends() -> None:
    replicas = ReplicaGroup(Handle([_report("a")]), 2, timeout_s=1)
    with pytest.raises(EveryoneError, match=r"2 rollout replicas were to begin an update; 1 did \(a\)"):
        replicas.start_weight_update()
