"""Whose turn it is: between callers, between requests, by cost and weight; and what a quota lets through."""

import asyncio
from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serve.fair import Asker, FairPlaces, FairQueue
from services.serve.quotas import Quota, QuotaError, Quotas
from services.serve.replica_settings import ReplicaArgs


def queue(weights: dict[str, float] | None = None) -> FairQueue[tuple[str, float]]:
    return FairQueue(lambda item: item[1], weights)


def names(of: FairQueue[tuple[str, float]], count: int) -> str:
    return "".join(of.pop()[0] for _ in range(count))


def test_callers_take_turns_and_a_request_keeps_its_order() -> None:
    fair = queue()
    fair.push([[(letter, 1)] for letter in "abc"], Asker("one"))
    fair.push([[(letter, 1)] for letter in "xyz"], Asker("two"))
    assert (len(fair), fair.callers) == (6, 2)
    assert names(fair, 6) == "axbycz"
    assert (len(fair), fair.callers) == (0, 0)


def test_a_small_request_passes_a_large_one_of_the_same_caller() -> None:
    fair = queue()
    fair.push([[("L", 100)]] * 10, Asker("one"))
    assert names(fair, 1) == "L"
    fair.push([[("s", 1)]] * 3, Asker("one"))
    assert names(fair, 4) == "sssL"


def test_turns_are_by_cost_and_weight() -> None:
    fair = queue({"heavy": 3.0})
    fair.push([[("h", 10)]] * 1000, Asker("heavy"))
    fair.push([[("l", 10)]] * 1000, Asker("light"))
    fair.push([[("b", 40)]] * 1000, Asker("big"))
    got = Counter(names(fair, 900))
    assert got["h"] / got["l"] == pytest.approx(3, rel=0.05)
    assert got["l"] / got["b"] == pytest.approx(4, rel=0.05)


def test_a_group_comes_out_together() -> None:
    fair = queue()
    fair.push([[("a", 1), ("b", 1)], [("c", 1)]], Asker("one"))
    fair.push([[("x", 1)], [("y", 1)]], Asker("two"))
    assert names(fair, 1) == "a"
    fair.push([[("s", 1)]], Asker("three"))
    assert names(fair, 5) == "bxsyc"


def test_a_turn_that_is_ended_leaves_the_rest_of_its_group_for_the_next_one() -> None:
    fair = queue()
    fair.end_turn()  # nobody's
    fair.push([[("a", 3), ("b", 3), ("c", 3)]], Asker("one"))
    fair.push([[("x", 2)], [("y", 2)], [("z", 2)]], Asker("two"))
    assert names(fair, 2) == "ab"
    fair.end_turn()
    assert (len(fair), fair.callers) == (4, 2)
    # Six have been paid for: as much is the other's.
    assert names(fair, 2) == "xy"
    fair.end_turn()  # over already
    assert names(fair, 2) == "zc"
    assert (len(fair), fair.callers) == (0, 0)


def test_who_was_away_has_saved_nothing_up() -> None:
    fair = queue()
    fair.push([[("a", 1)]] * 100, Asker("one"))
    names(fair, 50)
    fair.push([[("b", 1)]] * 50, Asker("two"))
    assert Counter(names(fair, 20)) == {"a": 10, "b": 10}


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(0, 3), st.integers(1, 9), st.integers(0, 4), st.booleans()
        ),
        max_size=40,
    )
)
def test_nothing_is_lost_and_order_within_a_request_is_kept(
    steps: list[tuple[str, int, int, int, bool]],
) -> None:
    fair: FairQueue[tuple[Asker, int, int]] = FairQueue(lambda item: item[2])
    askers = {(caller, number): Asker(caller) for caller in "abc" for number in range(4)}
    pushed: dict[Asker, list[int]] = {asker: [] for asker in askers.values()}
    popped: dict[Asker, list[int]] = {asker: [] for asker in askers.values()}
    for place, (caller, number, cost, pops, ends) in enumerate(steps):
        asker = askers[caller, number]
        fair.push([[(asker, 2 * place, cost), (asker, 2 * place + 1, cost)]], asker)
        pushed[asker] += [2 * place, 2 * place + 1]
        for _ in islice(range(len(fair)), pops):
            head = fair.peek()
            item = fair.pop()
            assert item == head
            popped[item[0]].append(item[1])
        if ends:
            fair.end_turn()
    while len(fair):
        item = fair.pop()
        popped[item[0]].append(item[1])
    assert popped == pushed


def test_what_a_turn_took_is_charged_when_it_is_known() -> None:
    fair = queue()
    one, two = Asker("one"), Asker("two")
    fair.push([[("a", 1)]] * 9, one)
    fair.push([[("b", 1)]] * 9, two)
    assert names(fair, 2) == "ab"
    fair.charge(one, 3)  # while it waits
    assert names(fair, 5) == "bbbab"
    # Both have had 5 by now, and who comes begins at 4, where the last turn began.
    fair.push([[("c", 1), ("d", 1)]], late := Asker("late"))
    assert names(fair, 1) == "c"
    fair.charge(late, 2)  # in the middle of its turn
    assert names(fair, 1) == "d"
    fair.charge(late, 1)  # when it is away
    fair.push([[("e", 1)]], late)
    assert names(fair, len(fair)) == "abababab" + "e" + "aaa"


def test_who_gets_no_turn_now_keeps_its_place() -> None:
    fair = queue()
    assert not fair.begin_turn()
    fair.push([[("a", 1)]] * 3, Asker("one"))
    fair.push([[("x", 1), ("y", 1)]] * 3, Asker("two"))
    assert not fair.begin_turn({"one", "two"})
    assert fair.begin_turn({"one"})
    assert names(fair, 1) == "x"
    assert fair.begin_turn({"two"})  # which goes on
    assert names(fair, 1) == "y"
    assert names(fair, 4) == "aaxy"


COSTS = st.floats(0.1, 5)


@given(
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2, max_size=4),
    costs=st.lists(COSTS, min_size=40, max_size=40),
    places=st.integers(1, 5),
    random=st.randoms(use_true_random=False),
)
def test_totals_are_by_weight_however_late_a_cost_is_known(
    weights: list[float], costs: list[float], places: int, random: Random
) -> None:
    """A turn counts 0.1 at first, and what it took when its place is given back."""
    by_caller = {str(number): weight for number, weight in enumerate(weights)}
    fair: FairQueue[Asker] = FairQueue(lambda asker: 0.1, by_caller)
    for asker in map(Asker, by_caller):
        fair.push([[asker]] * len(costs), asker)
    totals = dict.fromkeys(by_caller, 0.0)
    running: list[tuple[Asker, float]] = []
    for cost in costs:
        if len(running) == places:
            asker, took = running.pop(random.randrange(places))
            fair.charge(asker, took - 0.1)
        running.append((fair.pop(), cost))
        totals[running[-1][0].caller] += cost
    shares = [total / by_caller[caller] for caller, total in totals.items()]
    # Who has a turn was behind all others, but for what is not known yet of all places.
    assert max(shares) - min(shares) <= places * 5 / min(weights) + 1e-9


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 3), st.floats(0, 9)), max_size=30
    )
)
def test_who_comes_back_is_never_before_one_who_came_first(
    steps: list[tuple[str, int, int, float]],
) -> None:
    fair = queue()
    askers = {name: Asker(name) for name in "abc"}
    waiting = Counter({"b": 20})
    fair.push([[("b", 1)]] * 20, askers["b"])
    for name, pushes, pops, more in steps:
        fair.push([[(name, 1)]] * pushes, askers[name])
        waiting[name] += pushes
        waiting.subtract(names(fair, min(pops, len(fair))))
        fair.charge(askers[name], more)
    while waiting["a"]:
        waiting.subtract(names(fair, 1))
    fair.push([[("n", 1)]], Asker("new"))
    fair.push([[("a", 1)]], askers["a"])
    order = names(fair, len(fair))
    assert order.index("n") < order.index("a")


@given(owed=st.floats(0, 50), costs=st.lists(st.tuples(COSTS, COSTS), min_size=60, max_size=60))
def test_nobody_waits_for_more_than_what_is_owed(owed: float, costs: list[tuple[float, float]]) -> None:
    fair = queue()
    for name in "xy":
        fair.push([[(name, 0.1)]] * 600, Asker(name))
    late = Asker("late")
    fair.push([[("l", 0.1)]], late)
    fair.charge(late, owed)
    got = {"x": 0.0, "y": 0.0}
    askers = {name: Asker(name) for name in "xy"}
    for cost_of_x, cost_of_y in costs * 10:
        if (name := names(fair, 1)) == "l":
            break
        more = cost_of_x if name == "x" else cost_of_y
        fair.charge(askers[name], more)
        got[name] += 0.1 + more
    else:
        raise AssertionError("it never had its turn")
    # What the other had when its last turn began, and that turn.
    assert max(got.values()) <= owed + 5.1 + 1e-9


def test_places_go_round_and_come_back_from_those_who_leave() -> None:
    async def body() -> list[str]:
        places, order = FairPlaces(1), []
        one, two = Asker("one"), Asker("two")

        async def work(name: str, asker: Asker) -> None:
            await places.take(asker=asker)
            order.append(name)
            await asyncio.sleep(0)
            places.give()

        await places.take(asker=one)
        waiting = [asyncio.create_task(work(f"a{n}", one)) for n in range(3)]
        waiting.append(asyncio.create_task(work("b", two)))
        await asyncio.sleep(0)
        assert (len(places), places.callers) == (4, 2)
        waiting.pop(1).cancel()
        places.give()
        async with asyncio.timeout(5):
            await asyncio.gather(*waiting)
        assert len(places) == 0
        return order

    assert asyncio.run(body()) == ["b", "a0", "a2"]


def test_more_than_all_places_gets_its_turn_when_all_are_free() -> None:
    async def body() -> None:
        places = FairPlaces(2)
        await places.take(1)
        large = asyncio.create_task(places.take(5))
        await asyncio.sleep(0)
        assert not large.done()
        places.give(1)
        async with asyncio.timeout(5):
            await large

    asyncio.run(body())


def test_a_quota_fills_up_within_a_minute() -> None:
    now = 0.0
    quotas = Quotas(Quota(requests_per_minute=60, work_per_minute=600), lambda: now)
    for _ in range(60):
        quotas.take("one", requests=1)
    with pytest.raises(QuotaError, match="requests: 60 a minute") as refused:
        quotas.take("one", requests=1)
    assert (refused.value.status, refused.value.retry_after_s) == (429, 1.0)
    quotas.take("two", requests=1)
    now = 1.0
    quotas.take("one", requests=1)
    # More than a minute's is taken by one who asked for nothing, and has to be made up for.
    quotas.take("one", work=1200)
    with pytest.raises(QuotaError) as later:
        quotas.take("one", work=60)
    assert later.value.retry_after_s == pytest.approx(66)
    now = 1.0 + 66
    quotas.take("one", work=60)


def test_without_a_quota_nothing_is_counted() -> None:
    quotas = Quotas(Quota())
    for _ in range(1000):
        quotas.take("one", requests=1, work=1e9)
    assert not quotas._owed


def test_callers_are_named_as_connections_name_them() -> None:
    given = {"0:0:0:0:0:0:0:1": 2.0, "FE80::0A": 3.0, "10.0.0.7": 0.5, "token:0123456789ab": 4.0}
    weights = ReplicaArgs(weights=given).weights
    assert weights == {"::1": 2.0, "fe80::a": 3.0, "10.0.0.7": 0.5, "token:0123456789ab": 4.0}
