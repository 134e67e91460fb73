"""The states of a replica's policy, on an engine that only notes what it is told."""

import asyncio
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import blake3
import pytest

from rlad_core.client.errors import NotReadyError
from services.base.losses import is_loss
from services.rollout.taking_weights import TakesWeights
from services.weights.held_policy import BrokenReplicaError, HeldPolicy, StaleReplicaError
from services.weights.image import Image, OpenImage
from services.weights.policy_store import PolicyStore, Publication

IMAGE = Image("weights", 7)
with OpenImage(IMAGE.path, writable=True) as _opened:
    _opened.bytes[:] = b"weights"
CHECKSUM = blake3.blake3(b"weights").hexdigest()


class NotingEngine:
    """Notes its calls; `hold` keeps `receive` waiting, `fault` makes it fail."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.hold: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.meets_fault: Callable[[], None] = lambda: None

    async def label(self, version: int) -> None:
        self.calls.append(f"label {version}")

    async def init_transfer(self, init_info: dict[str, Any]) -> None:
        self.calls.append(f"connect {init_info}")

    async def begin_update(self) -> None:
        self.calls.append("begin")

    async def receive(self, update_info: dict[str, Any]) -> None:
        if self.hold:
            await self.hold.wait()
        if self.fault:
            self.meets_fault()
            raise self.fault
        self.calls.append("receive")

    async def end_update(self, version: int) -> None:
        self.calls.append(f"end {version}")

    async def sleep(self) -> None:
        self.calls.append("sleep")

    async def wake(self) -> None:
        if self.fault:
            raise self.fault
        self.calls.append("wake")

    def shutdown(self) -> None:
        self.calls.append("shutdown")


class _Remote:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    async def remote(self, *args: Any) -> Any:
        return self._function(*args)


class Store:
    """Stands for the store's actor handle."""

    def __init__(self, version: int | None = None) -> None:
        self.version = version
        self.current = _Remote(lambda: None if self.version is None else _publication(self.version))
        self.get = _Remote(_publication)
        self.path = _Remote(lambda version, node: IMAGE.path)


def _publication(version: int) -> Publication:
    return Publication(version, CHECKSUM, 7)


def run(scenario: Callable[[NotingEngine], Coroutine[Any, Any, None]]) -> NotingEngine:
    engine = NotingEngine()
    asyncio.run(scenario(engine))
    return engine


def test_a_replica_starts_with_its_folder_where_nothing_was_published() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", Store(), 5)
        await held.start()
        assert held.report == {"replica": "a", "version": 0, "checksum": None}

    assert run(scenario).calls == ["label 0"]


def test_a_late_replica_starts_with_the_current_version() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", Store(7), 5)
        await held.start()
        assert held.report["version"] == 7

    assert run(scenario).calls == ["label 0", "begin", "receive", "end 7"]


def test_a_request_for_a_newer_version_brings_it() -> None:
    async def scenario(engine: NotingEngine) -> None:
        store = Store(1)
        held = HeldPolicy(engine, "a", store, 5)
        await held.start()
        store.version = 2
        await held.reach(1)
        assert held.report["version"] == 1, "an older one will do"
        # Many requests notice at the same time, one update follows.
        await asyncio.gather(*(held.reach(2) for _ in range(5)))
        assert held.report["version"] == 2

    assert run(scenario).calls.count("begin") == 2


@pytest.mark.parametrize("store", [Store(1), None], ids=["store is behind", "no store"])
def test_a_request_for_a_version_nobody_has_is_refused(store: Store | None) -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", store, 5)
        await held.start()
        with pytest.raises(StaleReplicaError, match=r"replica a holds policy version ., the request wants 3"):
            await held.reach(3)

    run(scenario)


def test_loading_what_is_held_does_nothing() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", Store(1), 5)
        await held.start()
        await held.load(1)

    assert run(scenario).calls.count("begin") == 1


def test_going_back_to_an_older_version_loads_it() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", Store(5), 5)
        await held.start()
        await held.load(3)
        assert held.report["version"] == 3

    run(scenario)


def test_a_failed_update_breaks_the_replica_for_good() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", Store(), 5)
        await held.start()
        engine.fault = ValueError("3 of 12 parameters unset")
        with pytest.raises(ValueError, match="3 of 12"):
            await held.load(1)
        engine.fault = None
        for attempt in (held.reach(0), held.load(1), held.begin()):
            with pytest.raises(RuntimeError, match=r"replica a has unsound weights .* 3 of 12"):
                await attempt
        # To a request: 503, which clients repeat until another replica has it.
        with pytest.raises(NotReadyError, match="will be replaced"):
            await held.reach(0)

    assert run(scenario).calls == ["label 0", "begin", "shutdown"]


def test_a_cancelled_request_does_not_interrupt_the_update_it_caused() -> None:
    async def scenario(engine: NotingEngine) -> None:
        store = Store()
        held = HeldPolicy(engine, "a", store, 5)
        await held.start()
        store.version = 1
        engine.hold = asyncio.Event()
        request = asyncio.create_task(held.reach(1))
        await asyncio.sleep(0.1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        engine.hold.set()
        await held.reach(1)
        assert held.report["version"] == 1

    assert run(scenario).calls == ["label 0", "begin", "receive", "end 1"]


def test_an_update_that_takes_too_long_breaks_the_replica() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", Store(), 0.1)
        await held.start()
        engine.hold = asyncio.Event()
        with pytest.raises(TimeoutError, match=r"waited 0.1 s for loading policy version 1"):
            await held.load(1)
        with pytest.raises(RuntimeError, match="unsound weights"):
            held.refuse_if_broken()

    run(scenario)


def test_a_push_is_begun_received_and_ended() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", None, 0.1)
        await held.start()
        await held.begin()
        with pytest.raises(RuntimeError, match="begun and not ended"):
            await held.begin()
        await held.receive({})
        await held.end(4)
        await asyncio.sleep(0.2)
        held.refuse_if_broken()
        assert held.report == {"replica": "a", "version": 4, "checksum": None}

    assert run(scenario).calls == ["label 0", "begin", "receive", "end 4"]


def test_a_push_that_the_learner_abandons_breaks_the_replica() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", None, 0.1)
        await held.start()
        await held.begin()
        await asyncio.sleep(0.2)
        with pytest.raises(RuntimeError, match=r"the learner did not end its update within 0.1 s"):
            await held.receive({})

    assert run(scenario).calls == ["label 0", "begin", "shutdown"]


def test_a_new_version_wakes_a_replica_that_sleeps() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", Store(7), 5)
        await held.sleep()
        await held.sleep()
        assert held.asleep
        await held.load(7)
        assert not held.asleep
        await held.sleep()
        await held.wake()
        await held.wake()

    assert run(scenario).calls == ["sleep", "wake", "begin", "receive", "end 7", "sleep", "wake"]


def test_a_replica_whose_weights_changed_in_its_sleep_is_replaced() -> None:
    async def scenario(engine: NotingEngine) -> None:
        held = HeldPolicy(engine, "a", Store(), 5)
        await held.sleep()
        engine.fault = RuntimeError("1 of 3 weights differ")
        with pytest.raises(RuntimeError, match="1 of 3 weights differ"):
            await held.wake()
        with pytest.raises(RuntimeError, match="unsound weights and will be replaced: waking up failed"):
            held.refuse_if_broken()

    assert run(scenario).calls == ["sleep", "shutdown"]


# What its calls are answered with, whatever it was that raised


class _Replica(TakesWeights):
    """Of a service, what takes weights."""

    def __init__(self, held: HeldPolicy) -> None:
        self._held, self._replica = held, "a"


@pytest.mark.parametrize("when", ["before it is mapped", "while it is read"])
def test_an_image_that_goes_with_the_store_s_process_is_a_loss(when: str) -> None:
    """The path of an ended process's memory: there is nothing at it any more."""

    async def scenario(engine: NotingEngine) -> None:
        store, image = Store(), Image("weights", 7)
        with OpenImage(image.path, writable=True) as opened:
            opened.bytes[:] = b"weights"
        store.path = _Remote(lambda version, node: image.path)
        replica = _Replica(HeldPolicy(engine, "a", store, 5))
        if when == "before it is mapped":
            image.close()
        else:
            engine.fault, engine.meets_fault = RuntimeError("Call to update_weights failed"), image.close
        with pytest.raises(RuntimeError, match=r"^replica a could not load .*/fd/\d+ was lost with") as lost:
            await replica.update_weights(3)
        assert is_loss(pickle.loads(pickle.dumps(lost.value)))

    run(scenario)


def test_an_update_that_fails_where_its_image_is_there_is_none() -> None:
    async def scenario(engine: NotingEngine) -> None:
        engine.fault = RuntimeError("Call to update_weights failed")
        with pytest.raises(RuntimeError, match=r"Call to update_weights failed$") as torn:
            await _Replica(HeldPolicy(engine, "a", Store(), 5)).update_weights(3)
        assert not is_loss(torn.value)

    run(scenario)


def test_a_call_s_error_has_the_replica_s_name_and_says_whether_it_is_a_loss() -> None:
    async def scenario(engine: NotingEngine) -> None:
        store = Store()
        replica = _Replica(HeldPolicy(engine, "a", store, 5))
        store.get = _Remote(PolicyStore().get)  # it was lost, and began anew
        with pytest.raises(
            RuntimeError, match=r"^replica a could not load policy version 3: Unknown"
        ) as lost:
            await replica.update_weights(3)
        assert is_loss(lost.value)
        store.get = _Remote(_publication)
        engine.fault = ValueError("layer 3 was torn")
        with pytest.raises(RuntimeError, match=r"^replica a could not load .* layer 3 was torn$") as torn:
            await replica.update_weights(3)
        assert not is_loss(torn.value)
        with pytest.raises(BrokenReplicaError, match=r"^replica a has unsound weights .* layer 3 was torn$"):
            await replica.update_weights(3)

    run(scenario)
