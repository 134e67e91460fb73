"""Which prompts are being worked on: a bounded number of slots, and a frontier that never outruns training.

Every group that is alive holds a slot and is in one of four states:

    waiting ----> in_flight ----> finished ----> taken ----> (slot freed)
    drawn, not    being sampled,  waits for its  in a batch    trained on, and the new weights are out
    yet sent      scored, judged  batch   |      of a step
      |                                   +----------------> (slot freed: uninformative)
      +---------------------------------> taken: a worked solution, which no service works on

With ``(max_staleness + 1) * prompts_per_step`` slots a group can be at most ``max_staleness`` versions old
when it is trained on, without ever dropping one. A position counts as consumed only when its slot is freed,
so a run that is resumed works again on exactly the groups that were alive, and on none twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["waiting", "in_flight", "finished", "taken"]
_NEXT: dict[State, tuple[State, ...]] = {
    "waiting": ("in_flight", "taken"),
    "in_flight": ("finished",),
    "finished": ("taken",),
    "taken": (),
}


@dataclass(frozen=True)
class Frontier:
    """What a checkpoint keeps: enough to continue without skipping or repeating a group.

    Attributes:
        next_position: first position that was never drawn.
        alive: positions drawn and not freed, in rising order.

    Raises:
        ValueError: the two do not belong together; continuing would repeat or skip a group.
    """

    next_position: int = 0
    alive: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((-1, *self.alive), (*self.alive, self.next_position), strict=True))
        if not rising:
            raise ValueError(
                f"no frontier: living positions {list(self.alive)} must rise and lie below the next one, "
                f"{self.next_position}"
            )


class SlotLedger:
    """Slots of a run. Positions count draws from the stream of training prompts: 0, 1, 2, ...

    Args:
        slots: how many positions may be alive at once.
        frontier: where an earlier run stopped; its living positions are drawn again first.
    """

    def __init__(self, slots: int, frontier: Frontier = Frontier()) -> None:
        if slots < 1:
            raise ValueError(f"slots is {slots}, wanted at least 1")
        self._slots = slots
        self._next = frontier.next_position
        self._again = list(frontier.alive)
        self._states: dict[int, State] = {}

    def draw(self, count: int) -> list[int]:
        """Take `count` positions, oldest first; they are `waiting`.

        Raises:
            ValueError: `count` is negative.
            RuntimeError: not enough slots are free.
        """
        if count < 0:
            raise ValueError(f"count is {count}, wanted 0 or more")
        if count > self.free:
            raise RuntimeError(
                f"{count} groups are wanted and {self.free} of {self._slots} slots are free; "
                f"{len(self._states)} groups are alive"
            )
        again, self._again = self._again[:count], self._again[count:]
        fresh = count - len(again)
        drawn = [*again, *range(self._next, self._next + fresh)]
        self._next += fresh
        self._states.update(dict.fromkeys(drawn, "waiting"))
        return drawn

    def advance(self, position: int, to: State) -> None:
        """Move a group to its next state.

        Raises:
            RuntimeError: the group is not alive, or the step is out of order.
        """
        state = self._states.get(position)
        if state is None or to not in _NEXT[state]:
            raise RuntimeError(f"group {position} is {state or 'not alive'} and cannot become {to}")
        self._states[position] = to

    def release(self, positions: list[int]) -> None:
        """Free the slots of groups that are consumed: trained on (`taken`), or dropped when `finished`.

        Raises:
            RuntimeError: a group is in another state, or is named twice; nothing is freed then.
        """
        if len(set(positions)) < len(positions):
            raise RuntimeError(f"a group is named twice in {positions}; each slot is freed once")
        for position in positions:
            state = self._states.get(position, "not alive")
            if state not in ("finished", "taken"):
                raise RuntimeError(f"group {position} is {state}; only finished and taken groups are freed")
        for position in positions:
            del self._states[position]

    @property
    def free(self) -> int:
        """Slots without a group."""
        return self._slots - len(self._states)

    @property
    def alive(self) -> dict[int, State]:
        """State of each living position."""
        return dict(self._states)

    @property
    def frontier(self) -> Frontier:
        """What to save: see `Frontier`."""
        return Frontier(self._next, tuple(sorted([*self._again, *self._states])))
