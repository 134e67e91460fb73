"""The standing pool: which groups are begun, which a step gets, and what holds in any order of completion."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.slots import Frontier, SlotLedger
from rlad_core.standing_pool import StandingPool


def pool(groups: int = 4, bound: int = 1, window: int = 2) -> StandingPool:
    ledger = SlotLedger((bound + 1) * groups)
    return StandingPool(ledger, prompts_per_step=groups, max_staleness=bound, window=window)


def finish(standing: StandingPool, *positions: int) -> None:
    for position in positions:
        standing.finish(position)


def train(standing: StandingPool, step: int, positions: list[int]) -> None:
    """These are trained on in the step, and its version is out."""
    for position in positions:
        standing._ledger.advance(position, "trained")
    standing._ledger.release(positions)
    standing.version = step + 1


def test_on_policy_a_step_draws_its_groups_and_nothing_ahead() -> None:
    standing = pool(bound=0, window=1)
    standing.ask(0, 4, last=9)
    assert standing.begin() == [0, 1, 2, 3]
    finish(standing, 3)
    assert standing.take() == []  # three older ones would be overtaken, and the window has one
    finish(standing, 0, 1)
    assert standing.take() == [0, 1, 3]
    finish(standing, 2)
    assert standing.take() == [2]
    assert (standing.missing, standing.begin()) == (0, [])
    standing.ask(1, 4, last=9)
    assert standing.begin() == []  # until its version is out
    train(standing, 0, [0, 1, 2, 3])
    assert standing.begin() == [4, 5, 6, 7]
    finish(standing, 4, 5, 6, 7)
    train(standing, 1, standing.take())
    assert standing.begin() == []  # the version that is out may be evaluated first
    standing.ask(2, 4, last=9)
    assert standing.begin() == [8, 9, 10, 11]


def test_ahead_of_the_step_as_far_as_the_bound_goes() -> None:
    standing = pool(bound=2)
    standing.ask(0, 4, last=9)
    assert standing.begin() == list(range(12))
    finish(standing, 0, 1, 2, 3)
    assert standing.take() == [0, 1, 2, 3]
    standing.ask(1, 4, last=9)
    assert standing.begin() == []  # the four of step 0 still hold their slots


def test_what_is_taken_overtakes_within_the_window_and_the_oldest_goes_first() -> None:
    standing = pool(window=1)
    standing.ask(0, 2, last=9)
    standing.begin()
    finish(standing, 4, 3)
    assert standing.take() == []
    finish(standing, 0, 2)
    assert standing.take() == [0, 2]  # 1 alone was overtaken
    standing.ask(1, 4, last=9)
    assert standing.take() == [3, 4]


def test_of_two_slots_one_slow_group_stops_nobody() -> None:
    standing = pool(groups=1, bound=1, window=1)
    taken: list[int] = []
    for step in range(6):
        standing.ask(step, 1, last=9)
        finish(standing, *(position for position in standing.begin() if position != 0))
        taken += (got := standing.take())
        train(standing, step, got)
    assert taken == [1, 2, 3, 4, 5, 6]
    standing.finish(0)
    standing.ask(6, 1, last=9)
    assert standing.take() == [0]


def test_a_slow_group_steps_aside_and_is_taken_when_it_is_done() -> None:
    ledger = SlotLedger(4)
    standing = StandingPool(ledger, prompts_per_step=2, max_staleness=1, window=1)

    standing.ask(0, 2, last=9)
    assert standing.begin() == [0, 1, 2, 3]
    finish(standing, 1, 2, 3)
    assert standing.take() == [1, 2]  # 0 is slow
    train(standing, 0, [1, 2])
    standing.ask(1, 2, last=9)
    # Steps 1 and 2 want four: 0 and 3 are there.
    assert standing.begin() == [4, 5]
    finish(standing, 4)
    assert standing.take() == [3, 4]
    train(standing, 1, [3, 4])
    standing.ask(2, 2, last=9)
    # Of 0, begun with version 0, the first tokens are too old for step 2: 5, three more, and 0 aside.
    assert standing.begin() == [6, 7, 8]
    assert len(ledger.alive) == 5
    finish(standing, 0, 5, 6)
    assert standing.take() == [0, 5]
    train(standing, 2, [0, 5])
    standing.ask(3, 2, last=9)
    assert standing.begin() == [9]  # for steps 3 and 4: 6, 7 and 8 are there already


def test_spare_groups_are_begun_while_some_are_slow() -> None:
    standing = pool(groups=8, window=4)

    standing.ask(0, 8, last=9)
    assert standing.begin() == list(range(16))
    finish(standing, *range(1, 9))
    assert standing.take() == list(range(1, 9))  # 0 is slow
    standing.ask(1, 8, last=9)
    finish(standing, *range(9, 16))
    assert (standing.take(), standing.missing) == (list(range(9, 16)), 1)
    train(standing, 0, list(range(1, 9)))
    # Step 1 waits for one group with its version out, and takes it from those of step 2: one more is begun.
    assert standing.begin() == list(range(16, 25))
    assert standing.begin() == []  # once a version
    finish(standing, *range(16, 25))
    assert standing.take() == [16]
    standing.ask(2, 8, last=9)
    assert (standing.begin(), standing.take()) == ([], list(range(17, 25)))
    standing.ask(3, 8, last=9)
    train(standing, 1, [*range(9, 16), 16])
    # One group has been slow for two steps: half a group a step, and a whole one is spare.
    assert standing.begin() == list(range(25, 34))
    finish(standing, *range(25, 32), 33)
    assert standing.take() == [*range(25, 32), 33]  # 32 is slow too, and nobody waits for it
    standing.ask(4, 8, last=9)
    train(standing, 2, list(range(17, 25)))
    # Two in three steps. 8 for step 4 and a spare one, beyond 0 and 32.
    assert standing.begin() == list(range(34, 43))
    finish(standing, 0, 32, *range(34, 43))
    before, taken = [*range(25, 32), 33], standing.take()
    assert taken == [0, 32, *range(34, 40)]
    # Nobody is slow any more. With versions 4 and 5 one is spare yet: within them another would have come.
    for step, begun in ((5, 8 - 3 + 1), (6, 8 - 1 + 1), (7, 8 - 1)):
        standing.ask(step, 8, last=20)
        train(standing, step - 2, before)
        new = standing.begin()
        assert len(new) == begun
        finish(standing, *new)
        before, taken = taken, standing.take()


def test_many_that_a_step_waits_for_are_not_slow_ones() -> None:
    standing = pool(groups=8, window=4)
    standing.ask(0, 8, last=9)
    standing.begin()
    finish(standing, *range(8))
    taken = standing.take()
    standing.ask(1, 8, last=9)
    train(standing, 0, taken)
    assert standing.begin() == list(range(16, 24))


def test_the_last_step_of_a_stage_waits_for_all_that_were_begun() -> None:
    standing = pool(groups=2, bound=1)
    standing.ask(0, 2, last=1)
    assert standing.begin() == [0, 1, 2, 3]
    finish(standing, 1, 2)
    assert standing.take() == [1, 2]
    standing.ask(1, 2, last=1)
    assert standing.begin() == []
    finish(standing, 3)
    assert (standing.take(), standing.missing) == ([3], 1)
    finish(standing, 0)
    assert (standing.take(), standing.missing) == ([0], 0)


def test_a_request_that_is_not_satisfied_is_not_replaced() -> None:
    standing = pool()
    standing.ask(1, 2, last=9)
    with pytest.raises(RuntimeError, match="step 2 asks for groups, and step 1 still waits for 2"):
        standing.ask(2, 2, last=9)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    groups=st.integers(1, 5),
    bound=st.integers(0, 3),
    window=st.integers(0, 4),
    stages=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    refills=st.integers(0, 2),
)
def test_any_order_of_completion(
    seed: int, groups: int, bound: int, window: int, stages: list[int], refills: int
) -> None:
    """Groups finish, versions come out, groups are dropped and the run is killed and resumed in any order.

    Always: no group is trained on twice, none is skipped, in its turn none is older than the bound, slots and
    window are kept, and the run comes to its end.
    """
    lasts = [sum(stages[: index + 1]) - 1 for index in range(len(stages))]
    chance = random.Random(seed)
    kills = chance.randrange(3)
    consumed: list[int] = []
    frontier, first = Frontier(), 0
    while True:
        ledger = SlotLedger((bound + 1) * groups, frontier)
        standing = StandingPool(
            ledger, prompts_per_step=groups, max_staleness=bound, window=window, version=first
        )
        begun: dict[int, int] = {}
        running: list[int] = []
        unpublished: list[tuple[int, list[int]]] = []
        killed = False

        def begin() -> None:
            for position in standing.begin():  # noqa: B023
                begun[position] = standing.version  # noqa: B023
                running.append(position)  # noqa: B023
            alive = [p for p, state in ledger.alive.items() if state != "dropped"]  # noqa: B023
            assert len(alive) <= (bound + 1) * groups + window

        saved = (frontier, list(consumed), first)
        for step in range(first, lasts[-1] + 1):
            last = next(each for each in lasts if each >= step)
            batch, dropped = [], []
            for _ in range(1 + refills):
                standing.ask(step, groups - len(batch), last)
                begin()
                got: list[int] = []
                while standing.missing:
                    assert running or unpublished, "nobody would wake it"
                    if unpublished and (not running or chance.random() < 0.5):
                        version, positions = unpublished.pop(0)
                        ledger.release(positions)
                        standing.version = version
                        begin()
                    else:
                        standing.finish(running.pop(chance.randrange(len(running))))
                    new = standing.take()
                    for position in new:
                        older = [p for p in running if p < position]
                        assert len(older) <= window
                        if window == 0:  # in its turn
                            assert step - begun[position] <= bound
                    got += new
                teaches = [p for p in sorted(got) if refills == 0 or chance.random() < 0.75]
                for position in set(got) - set(teaches):
                    ledger.advance(position, "dropped")
                    dropped.append(position)
                batch += teaches
                if len(batch) == groups:
                    break
            if kills and chance.random() < 0.25:
                kills -= 1
                killed = True
                break
            for position in batch:
                ledger.advance(position, "trained")
            ledger.release(dropped)
            consumed += [*batch, *dropped]
            unpublished.append((step + 1, batch))
            if chance.random() < 0.5:
                saved = (ledger.frontier, list(consumed), step + 1)
        if not killed:
            break
        frontier, consumed, first = saved
    assert len(consumed) == len(set(consumed))
    alive = ledger.frontier.alive
    assert sorted([*consumed, *alive]) == list(range(ledger.frontier.next_position))
    assert not alive  # the last step of a stage takes all that was begun for it
    if refills == 0:
        assert sorted(consumed) == list(range(groups * (lasts[-1] + 1)))
