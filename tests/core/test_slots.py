"""Slots: the order of a group's states, and a frontier that neither repeats nor skips a group."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rlad_core.slots import Frontier, SlotLedger


def finish(ledger: SlotLedger, positions: list[int]) -> None:
    for position in positions:
        for state in ("in_flight", "finished", "taken"):
            ledger.advance(position, state)
    ledger.release(positions)


def test_a_group_goes_through_its_states_and_frees_its_slot() -> None:
    ledger = SlotLedger(2)
    assert ledger.draw(2) == [0, 1]
    assert (ledger.free, ledger.alive) == (0, {0: "waiting", 1: "waiting"})
    for state in ("in_flight", "finished", "taken"):
        ledger.advance(1, state)
        assert ledger.alive == {0: "waiting", 1: state}
    ledger.release([1])
    assert (ledger.free, ledger.alive, ledger.frontier) == (1, {0: "waiting"}, Frontier(2, (0,)))
    assert ledger.draw(1) == [2]


def test_what_is_refused() -> None:
    ledger = SlotLedger(2)
    ledger.draw(1)
    with pytest.raises(
        RuntimeError, match="2 groups are wanted and 1 of 2 slots are free; 1 groups are alive"
    ):
        ledger.draw(2)
    with pytest.raises(ValueError, match="count is -1"):
        ledger.draw(-1)
    with pytest.raises(RuntimeError, match="group 0 is waiting and cannot become finished"):
        ledger.advance(0, "finished")
    with pytest.raises(RuntimeError, match="group 5 is not alive and cannot become in_flight"):
        ledger.advance(5, "in_flight")
    with pytest.raises(RuntimeError, match="group 0 is waiting; only finished and taken groups"):
        ledger.release([0])
    with pytest.raises(ValueError, match="slots is 0"):
        SlotLedger(0)


def test_a_refused_release_frees_nothing() -> None:
    ledger = SlotLedger(2)
    ledger.draw(2)
    for state in ("in_flight", "finished", "taken"):
        ledger.advance(0, state)
    with pytest.raises(RuntimeError, match="group 1 is waiting"):
        ledger.release([0, 1])
    with pytest.raises(RuntimeError, match="named twice"):
        ledger.release([0, 0])
    assert ledger.free == 0
    with pytest.raises(RuntimeError, match="is taken and cannot become"):
        ledger.advance(0, "in_flight")


def test_a_resumed_run_draws_what_was_alive_first() -> None:
    ledger = SlotLedger(4)
    ledger.draw(4)
    for state in ("in_flight", "finished", "taken"):
        ledger.advance(2, state)
    ledger.release([2])
    resumed = SlotLedger(4, ledger.frontier)
    assert resumed.draw(2) == [0, 1]
    # Saved again before all of them were drawn: still none is lost.
    assert resumed.frontier == Frontier(4, (0, 1, 3))
    assert resumed.draw(2) == [3, 4]


def test_fewer_slots_than_groups_were_alive() -> None:
    ledger = SlotLedger(1, Frontier(5, (1, 3)))
    seen = []
    for _ in range(4):
        seen += ledger.draw(1)
        finish(ledger, seen[-1:])
    assert seen == [1, 3, 5, 6]


@pytest.mark.parametrize(
    ("next_position", "alive"), [(3, (3,)), (3, (0, 0)), (3, (2, 1)), (-1, ()), (3, (-1,))]
)
def test_a_frontier_that_would_repeat_or_skip_is_refused(next_position: int, alive: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no frontier"):
        Frontier(next_position, alive)


class Run(RuleBasedStateMachine):
    """A run that draws, works, trains, is saved, and is killed and resumed at any time.

    What was trained since the last save is lost with the process, weights included, so `consumed` goes back
    to what it was then.
    """

    @initialize(slots=st.integers(1, 6))
    def start(self, slots: int) -> None:
        self.slots = slots
        self.ledger = SlotLedger(slots)
        self.consumed: list[int] = []
        self.saved: tuple[Frontier, list[int]] = (self.ledger.frontier, [])

    @rule(data=st.data())
    def draw(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, self.ledger.free))
        before = self.ledger.alive
        drawn = self.ledger.draw(count)
        assert len(drawn) == len(set(drawn)) == count
        assert drawn == sorted(drawn)
        assert not set(drawn) & (before.keys() | set(self.consumed))

    @precondition(lambda self: set(self.ledger.alive.values()) - {"taken"})
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        unfinished = sorted(p for p, state in self.ledger.alive.items() if state != "taken")
        position = data.draw(st.sampled_from(unfinished))
        following = {"waiting": "in_flight", "in_flight": "finished", "finished": "taken"}
        self.ledger.advance(position, following[self.ledger.alive[position]])

    @precondition(lambda self: "taken" in self.ledger.alive.values())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        taken = sorted(p for p, state in self.ledger.alive.items() if state == "taken")
        positions = data.draw(st.lists(st.sampled_from(taken), unique=True))
        self.ledger.release(positions)
        self.consumed += positions

    @rule()
    def save(self) -> None:
        self.saved = (self.ledger.frontier, list(self.consumed))

    @rule(save_first=st.booleans())
    def kill_and_resume(self, save_first: bool) -> None:
        if save_first:
            self.save()
        frontier, consumed = self.saved
        self.ledger = SlotLedger(self.slots, frontier)
        self.consumed = list(consumed)

    @invariant()
    def no_position_twice_and_none_skipped(self) -> None:
        frontier = self.ledger.frontier
        assert len(self.consumed) == len(set(self.consumed))
        assert sorted([*self.consumed, *frontier.alive]) == list(range(frontier.next_position))

    @invariant()
    def no_more_alive_than_slots(self) -> None:
        assert 0 <= self.ledger.free == self.slots - len(self.ledger.alive)

    def teardown(self) -> None:
        """Work off what is left: then exactly the first positions are consumed, each once."""
        if not hasattr(self, "ledger"):
            return
        for position, state in self.ledger.alive.items():
            for following in ("in_flight", "finished", "taken")[
                ("waiting", "in_flight", "finished", "taken").index(state) :
            ]:
                self.ledger.advance(position, following)
        rest = sorted(self.ledger.alive)
        self.ledger.release(rest)
        self.consumed += rest
        while self.ledger.frontier.alive:
            drawn = self.ledger.draw(min(self.slots, len(self.ledger.frontier.alive)))
            finish(self.ledger, drawn)
            self.consumed += drawn
        assert sorted(self.consumed) == list(range(self.ledger.frontier.next_position))


TestRun = Run.TestCase
TestRun.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
