"""Which prompts are being worked on: a bounded number of slots, and a frontier that never outruns training.

Every group that is alive is in one of these states; all but `dropped` hold a slot:

    waiting ----> in_flight ----> finished ----> taken ----> trained ----> (gone)
    drawn, not    being sampled,  waits for its  in a batch    |           the new weights are out
    yet sent      scored, judged  step           of a step     |
      |                                            |           consumed: no checkpoint draws it again
      |                                            +------> dropped -----> (gone)
      |                                                     uninformative  its step was trained
      +---------------------------------> taken: a worked solution, which no service works on

A position counts as consumed only when its step was trained, so a run that is resumed works again on exactly
the groups that were alive, and on none twice. Which groups are drawn when, and which a step gets, is
`rlad_core.standing_pool`'s to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["waiting", "in_flight", "finished", "taken", "trained", "dropped"]
_NEXT: dict[State, tuple[State, ...]] = {
    "waiting": ("in_flight", "taken"),
    "in_flight": ("finished",),
    "finished": ("taken",),
    "taken": ("trained", "dropped"),
    "trained": (),
    "dropped": (),
}


@dataclass(frozen=True)
class Frontier:
    """What a checkpoint keeps: enough to continue without skipping or repeating a group.

    Attributes:
        next_position: first position that was never drawn.
        alive: positions drawn and not consumed, in rising order.

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

    def draw(self, count: int, *, beyond: int = 0) -> list[int]:
        """Take `count` positions, oldest first; they are `waiting`.

        Args:
            beyond: how many groups may be alive without a slot for now.

        Raises:
            ValueError: `count` is negative.
            RuntimeError: not enough slots are free.
        """
        if count < 0:
            raise ValueError(f"count is {count}, wanted 0 or more")
        if count > self.free + beyond:
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
        """Let go of groups that are consumed: nothing of them is left here, and their slots are free.

        Raises:
            RuntimeError: a group is still being worked on, or is named twice; nothing is freed then.
        """
        if len(set(positions)) < len(positions):
            raise RuntimeError(f"a group is named twice in {positions}; each slot is freed once")
        for position in positions:
            state = self._states.get(position, "not alive")
            if state in ("waiting", "in_flight", "not alive"):
                raise RuntimeError(f"group {position} is {state}; only finished and taken groups are freed")
        for position in positions:
            del self._states[position]

    @property
    def free(self) -> int:
        """Slots without a group; below 0 where more groups are alive than slots are there."""
        return self._slots - sum(state != "dropped" for state in self._states.values())

    @property
    def alive(self) -> dict[int, State]:
        """State of each living position."""
        return dict(self._states)

    @property
    def frontier(self) -> Frontier:
        """What to save: see `Frontier`."""
        alive = (position for position, state in self._states.items() if state != "trained")
        return Frontier(self._next, tuple(sorted([*self._again, *alive])))
