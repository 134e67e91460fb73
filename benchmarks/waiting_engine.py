"""An engine that only waits, and a clock on which waiting takes no time."""

import asyncio
import selectors
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

LATENCIES = ("constant", "long_tailed", "straggler", "rare_straggler")
SLOWER = 10
"""How many times as long a straggler takes."""
STRAGGLERS = {"straggler": 1.0, "rare_straggler": 1 / 3}
"""Which share of the batches has one."""
_SIGMA = 0.6

Numbers = npt.NDArray[np.float64]


def now() -> float:
    """Seconds by the loop's clock."""
    return asyncio.get_running_loop().time()


class _Jumping(selectors.SelectSelector):
    """Waits by setting a clock forward."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += max(timeout or 0.0, 0.0)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on which waiting takes no time."""

    def __init__(self) -> None:
        self._clock = _Jumping()
        super().__init__(self._clock)

    def time(self) -> float:
        """Seconds that were waited."""
        return self._clock.now


@dataclass(frozen=True)
class Sampled:
    """A finished group: when each of its responses began and ended."""

    position: int
    times: list[tuple[float, float]]

    @property
    def seconds(self) -> Numbers:
        """[group], of each response."""
        return np.diff(np.array(self.times))[:, 0]


@dataclass
class Engine:
    """Responses of given lengths, so many at a time."""

    seconds: Numbers
    """[positions, group]"""
    places: int
    versions: list[tuple[float, int]] = field(default_factory=list)
    """When each policy version was out, the first one apart, which always was."""

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.places)
        self._ended_s = 0.0
        self._open: dict[asyncio.Task[Any] | None, float] = {}
        """When each response that has a place began."""

    @property
    def busy_s(self) -> float:
        """Seconds of all places together in which they had a response, up to now."""
        return self._ended_s + sum(now() - begun for begun in self._open.values())

    def begin(self, positions: Sequence[int], step: int, version: int) -> list[Coroutine[Any, Any, Sampled]]:
        """The work of `GroupPool`."""
        del step, version
        return [self._sample(position) for position in positions]

    async def _sample(self, position: int) -> Sampled:
        times = await asyncio.gather(*(self._respond(seconds) for seconds in self.seconds[position]))
        return Sampled(position, times)

    async def _respond(self, seconds: float) -> tuple[float, float]:
        async with self._free:
            mine, begun = asyncio.current_task(), now()
            self._open[mine] = begun
            await asyncio.sleep(seconds)
            ended = now()
            del self._open[mine]
        self._ended_s += ended - begun
        return begun, ended

    def too_old(self, group: Sampled, step: int, bound: int) -> Numbers:
        """Seconds of each response, [group], whose tokens step `step` gives no weight."""
        if step <= bound:  # the first version counts too
            return np.zeros(len(group.times))
        out = next(when for when, version in self.versions if version >= step - bound)
        begun = np.array(group.times)[:, 0]
        return np.clip(out - begun, 0, group.seconds)


def latencies(kind: str, rollout_s: float, sizes: tuple[int, int, int], seed: int) -> Numbers:
    """Seconds of each response, [batches * groups, group]; a batch alone takes `rollout_s` on average.

    Args:
        kind: of `LATENCIES`.
        sizes: batches, groups of each, responses of each of these.
        seed: of what is drawn.
    """
    generator = np.random.default_rng(seed)
    batches, groups, group = sizes
    found = np.full((batches, groups * group), rollout_s)
    if kind == "long_tailed":
        drawn = generator.lognormal(sigma=_SIGMA, size=found.shape)
        found = drawn * rollout_s / drawn.max(axis=1).mean()
    elif kind in STRAGGLERS:
        place = generator.integers(groups * group, size=batches)
        batch = np.flatnonzero(generator.random(batches) < STRAGGLERS[kind])
        found[batch, place[batch]] *= SLOWER
    return found.reshape(batches * groups, group)
