"""What a bound on staleness makes of a step: the standing pool against engines that only wait.

python -m benchmarks.pipeline                        # all splits, latencies and bounds, at the same time
python -m benchmarks.pipeline --split paper --steps 30 --bounds 0,1
python -m benchmarks.pipeline --jump                 # the same at once
python -m benchmarks.pipeline --jump --split 250/241 # stages of other lengths

The pool is the run's own (`services.experience.pool`); engines and learner are waits, real ones unless
``--jump`` says otherwise:

- a split says how long a batch takes to sample when it is alone, and how long the learner takes for it.
  `paper` is the paper's (438 s and 53 s of 491), `balanced` half and half, and 250/241 says both by itself;
  all are scaled, 1:100;
- the engine has a place for each response of a batch; what finds none waits. Latencies are seeded:
  `constant`, `long_tailed` (lognormal, sigma 0.6), or `straggler`: constant, but for one response in each
  batch, which takes ten times as long (there are places for these beside the batch's);
- weights are out a hundredth of a step after the update, behind the next step where the bound allows that.

"step / longest" is the mean length of a step over the longer of the two stages: how long a batch takes to
sample alone (on average over batches; of `straggler` without the straggler), or the learner. The first steps
fill the pool, so they do not count (on-policy one does not, and three do). "old" is the share of tokens that
were too old to count, each response having made its tokens at an even rate.
"""

import asyncio
import itertools
import math
import selectors
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import names_of
from rlad_core.slots import SlotLedger
from rlad_core.standing_pool import StandingPool
from services.experience.pool import GroupPool

SPLITS = {"paper": (438.0, 53.0), "balanced": (245.5, 245.5)}
"""Seconds: rollouts of a batch, learner."""
LATENCIES = ("constant", "long_tailed", "straggler")
_GROUP, _SIGMA, _SLOWER = 8, 0.6, 10


def _now() -> float:
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


@dataclass
class Engine:
    """Responses of given lengths, so many at a time."""

    seconds: npt.NDArray[np.float64]
    """[positions, group]"""
    places: int
    busy_s: float = 0.0
    versions: list[tuple[float, int]] = field(default_factory=list)
    """When each policy version was out."""

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.places)

    def begin(
        self, positions: Sequence[int], step: int, version: int
    ) -> list[Coroutine[Any, Any, "Sampled"]]:
        """The work of `GroupPool`."""
        del step, version
        return [self._sample(position) for position in positions]

    async def _sample(self, position: int) -> "Sampled":
        times = await asyncio.gather(*(self._respond(seconds) for seconds in self.seconds[position]))
        return Sampled(position, times)

    async def _respond(self, seconds: float) -> tuple[float, float]:
        async with self._free:
            begun = _now()
            await asyncio.sleep(seconds)
            ended = _now()
        self.busy_s += ended - begun
        return begun, ended

    def too_old(self, group: "Sampled", step: int, bound: int) -> float:
        """Share of a group's tokens that step `step` gives no weight."""
        out = next((when for when, version in self.versions if version >= step - bound), 0.0)
        spans = np.array(group.times)
        return float(np.clip(out - spans[:, 0], 0, spans[:, 1] - spans[:, 0]).sum() / np.diff(spans).sum())


@dataclass(frozen=True)
class Sampled:
    """A finished group: when each of its responses began and ended."""

    position: int
    times: list[tuple[float, float]]


def latencies(kind: str, rollout_s: float, groups: int, batches: int) -> npt.NDArray[np.float64]:
    """Seconds of each response, [batches * groups, _GROUP]; a batch alone takes `rollout_s` on average."""
    generator = np.random.default_rng(0)
    found = np.full((batches, groups * _GROUP), rollout_s)
    if kind == "long_tailed":
        drawn = generator.lognormal(sigma=_SIGMA, size=found.shape)
        found = drawn * rollout_s / drawn.max(axis=1).mean()
    elif kind == "straggler":
        found[np.arange(batches), generator.integers(groups * _GROUP, size=batches)] *= _SLOWER
    return found.reshape(batches * groups, _GROUP)


async def measure(
    split: str,
    kind: str,
    bound: int,
    *,
    groups: int,
    steps: int,
    warm_up: int,
    window: float,
    scale: float,
) -> tuple[float, float, float, float]:
    """Of one case: step over longest stage, idle shares of learner and places, share of old tokens."""
    rollout_s, learner_s = (seconds / scale for seconds in seconds_of(split))
    if not bound:  # every step is like the others
        steps, warm_up = min(steps, 3), 1
    count = steps + warm_up + bound + 1
    places = groups * _GROUP + (_SLOWER if kind == "straggler" else 0)
    engine = Engine(latencies(kind, rollout_s, groups, 2 * count), places)
    ledger = SlotLedger((bound + 1) * groups)
    standing = StandingPool(
        ledger,
        prompts_per_step=groups,
        max_staleness=bound,
        window=int(round(window * (bound + 1) * groups, 6)) if bound else 0,
    )
    pool = GroupPool(ledger, standing, engine.begin)
    publishing: asyncio.Task[None] | None = None
    waited = old = begun = busy = 0.0

    async def publish(version: int, batch: list[int]) -> None:
        await asyncio.sleep(0.01 * (rollout_s + learner_s))
        engine.versions.append((_now(), version))
        pool.published(version, batch)

    def collect(step: int) -> asyncio.Task[list[Sampled]]:
        # The end of the run is far away for the pool: what drains it is not measured.
        return asyncio.create_task(pool.take(step, groups, 2 * count))

    coming = collect(0)
    for step in range(steps + warm_up):
        if step == warm_up:
            begun, busy, waited, old = _now(), engine.busy_s, 0.0, 0.0
        asked = _now()
        batch = await coming
        waited += _now() - asked
        if bound:
            coming = collect(step + 1)
        old += float(np.mean([engine.too_old(group, step, bound) for group in batch]))
        await asyncio.sleep(learner_s)
        positions = [group.position for group in batch]
        for position in positions:
            ledger.advance(position, "trained")
        if publishing is not None:
            await publishing
        publishing = asyncio.create_task(publish(step + 1, positions))
        if not bound:
            await publishing
            coming = collect(step + 1)
    whole = _now() - begun
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)
    pool.close()
    idle = max(0.0, 1 - (engine.busy_s - busy) / (whole * places))
    return whole / steps / max(rollout_s, learner_s), waited / whole, idle, old / steps


async def _all(cases: list[tuple[str, str, int]], **settings: Any) -> list[tuple[float, float, float, float]]:
    return await asyncio.gather(*(measure(*case, **settings) for case in cases))


def seconds_of(split: str) -> tuple[float, float]:
    """Of rollouts of a batch and of the learner, by a name of `SPLITS` or as two numbers like 250/241.

    Raises:
        typer.BadParameter: it is neither, or a number is not above 0.
    """
    if split in SPLITS:
        return SPLITS[split]
    try:
        rollout_s, learner_s = map(float, split.split("/"))
    except ValueError:
        rollout_s = learner_s = math.nan
    if not (0 < rollout_s < math.inf and 0 < learner_s < math.inf):
        raise typer.BadParameter(
            f"{split!r} is none of {', '.join(SPLITS)}, and no two numbers of seconds above 0 such as 250/241"
        )
    return rollout_s, learner_s


def _splits(given: list[str] | None) -> list[str] | None:
    for split in given or ():
        seconds_of(split)
    return given


def _bounds(given: str) -> str:
    if not all(each.strip().isdecimal() for each in given.split(",")):
        raise typer.BadParameter(f"{given!r} is no list of whole numbers from 0 on, such as 0,1,2")
    return given


def main(
    split: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Of {', '.join(SPLITS)}, or seconds of rollouts and learner like 250/241; all with names.",
            callback=_splits,
        ),
    ] = None,
    latency: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(LATENCIES)}; all.", callback=names_of(LATENCIES))
    ] = None,
    bounds: Annotated[str, typer.Option(help="Values of max_staleness.", callback=_bounds)] = "0,1,2",
    groups: Annotated[int, typer.Option(min=1, help="prompts_per_step.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="That count.")] = 20,
    warm_up: Annotated[int, typer.Option(min=1, help="Steps before those that count.")] = 15,
    window: Annotated[float, typer.Option(min=0, max=1, help="overtake_window.")] = 0.3,
    scale: Annotated[float, typer.Option(min=1, help="One second here for so many.")] = 100,
    jump: Annotated[bool, typer.Option(help="Waits take no time; nothing of this machine is in it.")] = False,
) -> None:
    """Measure all cases side by side, for they only wait, and print the table."""
    cases = list(
        itertools.product(split or SPLITS, latency or LATENCIES, [int(each) for each in bounds.split(",")])
    )
    settings = {"groups": groups, "steps": steps, "warm_up": warm_up, "window": window, "scale": scale}
    with asyncio.Runner(loop_factory=JumpingLoop if jump else None) as runner:
        found = runner.run(_all(cases, **settings))
    shown = Table("split", "latency", "k", "step / longest", "learner idle", "places idle", "old")
    for (name, kind, bound), (ratio, *shares) in zip(cases, found, strict=True):
        shown.add_row(name, kind, str(bound), f"{ratio:.3f}", *(f"{share:.1%}" for share in shares))
    Console(width=110).print(shown)


if __name__ == "__main__":
    typer.run(main)
