"""What the learner makes of the replicas' answers to a new version, pulled or pushed."""

import pytest
import torch
from ray.exceptions import ActorDiedError

from services.weights.gathered import StateDict
from services.weights.push import ReplicaGroup, WeightPush, place_in_group
from services.weights.store import ReplicaReport, WeightSyncError, sync


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
