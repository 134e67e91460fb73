"""What is lost is started again, and what fails by itself is not."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OwnerDiedError,
    RayTaskError,
)
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError
from torch.distributed import DistBackendError, DistNetworkError, DistStoreError

from rlad_core.config import load
from services.base.losses import is_loss, wait_s
from services.learner import actors as learner_actors
from services.report.journal import Journal
from services.run import fitting
from services.run.attempts import until_done
from services.run.errors import LearnerError
from services.run.fitting import fit
from services.run.learning import Learning
from services.weights.held_policy import StaleReplicaError
from services.weights.policy_store import PolicyStore, UnknownVersionError

CLOSED = RuntimeError("[/x/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:29500")
NCCL = DistBackendError(
    "NCCL error in: /x/ProcessGroupNCCL.cpp:2022, remote process exited or there was a network error\n"
    "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely."
)
SYSTEM = DistBackendError(
    "NCCL error in: /x/NCCLUtils.cpp:77, unhandled system error\n"
    "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.\n"
    "Last error:\nsocketProgress: Connection closed by remote peer a.b<40000>"
)
OWN = ValueError("the reward is no number")
LOOKED_UP = ValueError("Failed to look up actor with name 'mine-experience'.")


def of_task(cause: BaseException) -> RayTaskError:
    return RayTaskError("next_shard", "Traceback ...", cause)


def of_an_empty_store(ask: Callable[[PolicyStore], Any]) -> Exception:
    """What one says that was lost and began anew."""
    try:
        ask(PolicyStore())
    except UnknownVersionError as error:
        return error
    raise AssertionError("it answered")


@pytest.mark.parametrize(
    ("failure", "loss"),
    [
        (ActorDiedError(), True),
        (of_task(ActorDiedError()), True),
        (of_task(ObjectLostError("ab", "10.0.0.2", "stack")), True),
        (NodeDiedError("its host is gone"), True),
        (of_task(OWN), False),
        (OWN, False),
        (LOOKED_UP, True),
        (OwnerDiedError("00ff", "", ""), True),
        (of_task(of_an_empty_store(lambda store: store.get(3))), True),
        (of_task(of_an_empty_store(lambda store: store.finish(3, "00ff"))), True),
        (of_task(of_an_empty_store(lambda store: store.write(0, np.zeros(3)))), True),
        (of_task(StaleReplicaError("the policy store has none: publish it first")), True),
        (TimeoutError("waited 1800 s for the batch of step 3"), False),
        (WorkerGroupError("two", {0: CLOSED, 1: ActorDiedError()}), True),
        (WorkerGroupError("two", {0: CLOSED, 1: OWN}), False),
        (WorkerGroupError("one", {0: WorkerHealthCheckFailedError("it", ActorDiedError())}), True),
        (ControllerError(NodeDiedError("its host is gone")), True),
        (ControllerError(OWN), False),
        (NCCL, True),
        (SYSTEM, True),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), True),
        (RuntimeError("NCCL error: invalid usage (run with NCCL_DEBUG=WARN for details)"), False),
        (DistNetworkError("Failed to recv, got 0 bytes. Connection was likely closed."), True),
        (DistStoreError("wait timeout after 20000ms, keys: /default_pg/0//here"), False),
        (RuntimeError(f"the objective mine.py:Mine failed: {CLOSED}"), True),
    ],
    ids=[
        *("actor", "task on an actor", "answer on a host", "host", "task", "own", "looked up", "owner"),
        *("store", "store while it took a version", "store while it was written to", "replica"),
        *("waited", "ranks lost", "a rank failed", "health", "controller lost", "controller failed"),
        *("nccl", "nccl's socket", "vllm's nccl", "vllm's nccl, own"),
        *("ranks' store", "ranks' store waited", "objective"),
    ],
)
def test_a_loss_is_told_from_what_a_new_process_would_do_again(failure: BaseException, loss: bool) -> None:
    assert is_loss(failure) == loss


@pytest.mark.parametrize(
    "own",
    [
        ValueError("reward.py, line 3: my judge server: Connection refused"),
        RuntimeError("the objective mine.py:Mine failed: line 3: my judge server: Connection refused"),
        ValueError("the prompts cannot be made: policy version 3 is not in the store, which holds []"),
        ValueError("my cluster: Failed to look up actor with name 'mine'"),
        ConnectionRefusedError(111, "Connection refused"),
    ],
    ids=["reward", "objective", "store", "actor", "connection"],
)
def test_a_user_s_own_fault_is_no_loss_whatever_it_says(own: Exception) -> None:
    assert not is_loss(own)
    assert not is_loss(of_task(own))


def test_the_wait_doubles_up_to_a_minute() -> None:
    assert [wait_s(5.0, attempt) for attempt in range(1, 8)] == [0, 5, 10, 20, 40, 60, 60]


def test_the_journal_begins_again_where_the_learner_does(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    assert journal.begin(0) == 1
    for step in range(3):
        journal.step({"step": step, "seconds": {}}, [], [])
    assert journal.begin(1) == 2
    journal.step({"step": 1, "seconds": {}}, [], [])
    journal.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1]
    assert [kind for kind, _ in journal.news(0)] == ["begun", "step", "step", "step", "begun", "step"]


def test_of_ranks_that_fail_alike_the_first_one_is_told() -> None:
    journal = Journal.__new__(Journal)
    journal._given_up = None
    journal.give_up("learner rank 1: it is odd", "Traceback")
    journal.give_up("learner rank 0: it is odd", "Traceback")
    assert journal.given_up() == ("learner rank 1: it is odd", "Traceback")


def answers(value: Any) -> Any:
    return SimpleNamespace(remote=lambda *_: value)


def fitted(actors: Any, failure: Exception | None = None) -> BaseException | None:
    """What comes of a training that ends at once."""

    def train() -> None:
        if failure is not None:
            raise failure

    watcher: Any = SimpleNamespace(seen=0, show=lambda news: None, say=print)
    lease: Any = SimpleNamespace(lost=None)
    learner = Learning(train, print)
    learner.begin()
    return fit(learner, load("kk-tiny-trrd"), actors, watcher, lease)


def test_a_given_up_run_is_told_in_the_ranks_words(monkeypatch: pytest.MonkeyPatch) -> None:
    told = answers(("learner rank 0: it is odd", "Traceback: all of it"))
    monkeypatch.setattr(ray, "get", lambda value, timeout: value)
    journal = SimpleNamespace(news=answers([]), given_up=told)
    failure = fitted(SimpleNamespace(journal=journal, collector=None, evaluator=None))
    assert isinstance(failure, LearnerError)
    assert (str(failure), failure.whole) == ("learner rank 0: it is odd", "Traceback: all of it")


@pytest.mark.parametrize(
    ("outcomes", "most", "attempts", "told"),
    [
        ([ActorDiedError(), of_task(ActorDiedError()), None], 3, 3, None),
        ([ActorDiedError(), ActorDiedError()], 1, 2, ActorDiedError),
        ([OWN], 3, 1, ValueError),
        ([ActorDiedError()], 0, 1, ActorDiedError),
        # Ray Train has started them again as often.
        ([ActorDiedError(), WorkerGroupError("ranks", {0: ActorDiedError()})], 3, 2, WorkerGroupError),
    ],
)
def test_a_run_goes_on_after_losses_as_often_as_its_recipe_says(
    outcomes: list[Any], most: int, attempts: int, told: Any
) -> None:
    left, said = iter(outcomes), list[str]()
    learner = load("kk-tiny-trrd", [f"learner.max_failures={most}", "learner.restart_wait_s=0.001"]).learner
    failure = until_done(learner, lambda: next(left), said.append)
    assert (failure is None) if told is None else isinstance(failure, told)
    assert [line.split(" in ")[-1] for line in said] == ["0.001 s", "0.002 s"][: attempts - 1]
    assert next(left, "none") == "none"


def test_what_an_attempt_raises_is_a_loss_too_or_ends_the_run() -> None:
    raised, said = iter([ActorDiedError(), OWN]), list[str]()

    def attempt() -> None:
        raise next(raised)

    learner = load("kk-tiny-trrd", ["learner.max_failures=3", "learner.restart_wait_s=0"]).learner
    with pytest.raises(ValueError, match="the reward is no number"):
        until_done(learner, attempt, said.append)
    assert len(said) == 1


def test_ranks_end_at_once_where_an_actor_of_the_run_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.learner import loop

    def get_actor(name: str, namespace: str) -> str:
        if name.endswith("-experience"):
            raise LOOKED_UP
        return name

    monkeypatch.setattr(loop.ray, "get_actor", get_actor)
    monkeypatch.setattr(loop.ray, "get", lambda *_, **__: pytest.fail("it asks"))
    loop.train_loop({"config": load("kk-tiny-trrd").model_dump(mode="json"), "code": {}})


RANKS_LOST = WorkerGroupError("ranks", {0: ActorDiedError()})


@pytest.mark.parametrize(
    ("asked", "failure", "told"),
    [
        (ActorDiedError(), None, ActorDiedError),
        # Its loss is another than that of the ranks, which failed because of it.
        (ActorDiedError(), RANKS_LOST, ActorDiedError),
        (GetTimeoutError(), RANKS_LOST, WorkerGroupError),
        (None, RANKS_LOST, WorkerGroupError),
        (ActorDiedError(), OWN, ValueError),
    ],
    ids=["gone", "gone with ranks", "busy", "there", "own fault"],
)
def test_a_run_whose_collector_is_gone_is_no_finished_one(
    asked: Exception | None, failure: Exception | None, told: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(value: Any, timeout: float) -> Any:
        if isinstance(value, list) and asked is not None:
            raise asked
        return value

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(fitting, "_GONE_S", 0.0)
    other = SimpleNamespace(__ray_ready__=answers(None))
    journal = SimpleNamespace(news=answers(()), given_up=answers(None))
    actors = SimpleNamespace(journal=journal, collector=other, evaluator=other)
    assert isinstance(fitted(actors, failure), told)


@pytest.mark.slow
def test_a_long_wait_for_one_of_the_run_s_actors_gives_signs_and_has_an_end(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_actors, "_SIGN_S", 0.1)

    @ray.remote(num_cpus=0)
    class Slow:
        def __init__(self) -> None:
            self._told = asyncio.Event()

        async def answer(self) -> int:
            await self._told.wait()
            return 7

        async def tell(self) -> None:
            self._told.set()

    actor, silent = Slow.remote(), Slow.remote()
    actors = learner_actors.Actors(actor, actor, silent, timeout_s=120.0)
    answer = actor.answer.remote()
    threading.Timer(1, actor.tell.remote).start()
    assert actors.ask(answer, "the answer") == 7
    short = replace(actors, timeout_s=0.5)
    with pytest.raises(TimeoutError, match=r"waited 0\.5 s for what never comes"):
        short.ask(silent.answer.remote(), "what never comes")
    ray.kill(actor)
    ray.kill(silent)
