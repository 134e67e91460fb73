"""The standing pool at work: a task for each group that is begun, and what a step waits for.

    begin -----> work (one task a group) -----> finished -----> take, oldest first, within the window
      ^ slots and versions: rlad_core/standing_pool.py                 |
      +-- published(version): slots are free, engines are newer <------+  trained, dropped

Waits, and what ends them:

- `take` waits for groups that are finished, or for a version that lets more of them begin: the tasks and
  `published` wake it. The services' own time limits bound the tasks; the first that fails fails `take`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from rlad_core.slots import SlotLedger
from rlad_core.standing_pool import StandingPool

Work = TypeVar("Work")


class GroupPool(Generic[Work]):
    """Groups in work, of one run; to be used on one event loop.

    Args:
        ledger: states of the groups, shared with who lets go of them.
        standing: says what is begun and taken.
        work: positions, the step that is collected and the oldest policy version that may sample -> a
            coroutine for each position.
    """

    def __init__(
        self,
        ledger: SlotLedger,
        standing: StandingPool,
        work: Callable[[Sequence[int], int, int], Sequence[Coroutine[Any, Any, Work]]],
    ) -> None:
        self._ledger = ledger
        self._standing = standing
        self._work = work
        self._tasks: dict[int, asyncio.Task[Work]] = {}
        self._changed = asyncio.Event()
        self._step = 0

    async def take(self, step: int, count: int, last: int) -> list[Work]:
        """What the work made of the next groups, by their positions in rising order.

        Args:
            step: that gets them. count: of groups. last: step of its stage.

        Raises:
            Exception: a group's failure, as it is; the others are cancelled.
        """
        self._step = step
        self._standing.ask(step, count, last)
        taken: list[int] = []
        while True:
            self._changed.clear()
            self._raise_failure()
            self._begin()
            taken += self._standing.take()
            if not self._standing.missing:
                return [self._tasks.pop(position).result() for position in sorted(taken)]
            await self._changed.wait()

    def published(self, version: int, positions: Sequence[int]) -> None:
        """The engines have this version; the slots of groups that were trained on before it are free."""
        self._ledger.release(list(positions))
        self._standing.version = max(self._standing.version, version)
        self._begin()
        self._changed.set()

    def drop(self, positions: Sequence[int]) -> None:
        """Nothing will be trained on these, which were taken: their slots are free."""
        for position in positions:
            self._ledger.advance(position, "dropped")

    def close(self) -> None:
        """Leave what is in work."""
        for task in self._tasks.values():
            task.cancel()

    def _begin(self) -> None:
        begun = self._standing.begin()
        for position, work in zip(
            begun, self._work(begun, self._step, self._standing.version) if begun else (), strict=True
        ):
            task = self._tasks[position] = asyncio.create_task(work)
            task.add_done_callback(partial(self._ended, position))

    def _ended(self, position: int, task: asyncio.Task[Work]) -> None:
        if task.cancelled():
            return
        if task.exception() is None:
            self._standing.finish(position)
        self._changed.set()

    def _raise_failure(self) -> None:
        ended = [task for task in self._tasks.values() if task.done() and not task.cancelled()]
        failures = [error for task in ended if (error := task.exception()) is not None]
        if failures:
            self.close()
            raise failures[0]
