"""What the learner makes of the replicas' answers to a new version, pulled or pushed."""

import pickle

import pytest
import torch
from ray.exceptions import ActorDiedError, RayTaskError

from services.base.losses import is_loss
from services.serve.everyone import EveryoneError
from services.weights.gathered import StateDict
from services.weights.held_policy import BrokenReplicaError
from services.weights.policy_store import UnknownVersionError
from services.weights.push import ReplicaGroup, WeightPush, place_in_group
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
    push = _push(Handle(both, [_report("a"), ActorDiedError()], both), timeout_s=5)
    taken: list[str] = []
    monkeypatch.setattr(push, "_connect", lambda: setattr(push, "_sender", Sender(push, taken)))
    assert push.publish(3) == both
    assert taken == ["first", "first", "second"]


def test_a_push_that_does_not_reach_every_replica_stops_before_it_sends() -> None:
    replicas = ReplicaGroup(Handle([_report("a")]), 2, timeout_s=1)
    with pytest.raises(EveryoneError, match=r"2 rollout replicas were to begin an update; 1 did \(a\)"):
        replicas.start_weight_update()
