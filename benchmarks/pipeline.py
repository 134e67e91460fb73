"""What a bound on staleness makes of a step: the standing pool against engines that only wait.

python -m benchmarks.pipeline                        # all splits, latencies and bounds, at the same time
python -m benchmarks.pipeline --split paper --steps 30 --bounds 0,1
python -m benchmarks.pipeline --jump                 # the same at once
python -m benchmarks.pipeline --jump --split 250/241 # stages of other lengths
python -m benchmarks.pipeline --jump --by-length     # also of which responses nothing counts

The pool is the run's own (`services.experience.pool`); engines and learner are waits, real ones unless
``--jump`` says otherwise:

- a split says how long a batch takes to sample when it is alone, and how long the learner takes for it.
  `paper` is the paper's (438 s and 53 s of 491), `balanced` half and half, and 250/241 says both by itself;
  all are scaled, 1:100;
- the engine has a place for each response of a batch; what finds none waits. Latencies are seeded:
  `constant`, `long_tailed` (lognormal, sigma 0.6), `straggler`: constant, but for one response in each
  batch, which takes ten times as long (there are places for these beside the batch's), or `rare_straggler`:
  one in a third of the batches, drawn at random;
- weights are out a hundredth of a step after the update, behind the next step where the bound allows that.

The first steps fill the pool, so they do not count. Columns:

- "step / longest": the mean length of a step over the longer of the two stages: how long a batch takes to
  sample alone (on average over batches; without the stragglers), or the learner;
- "step / least": the same over what no order of work goes below: the learner, or a batch's responses in
  places of which none is ever free. A batch that is alone waits for its slowest response, and takes more;
- "tokens old": the share of tokens that were too old to count, each response having made its tokens at an
  even rate, and "groups old" that of groups without a token that counts;
- "nothing counts": of the shortest and of the longest quarter of the responses, those without such a token.
  Where the two differ, the bound prefers a length.
"""

import asyncio
import itertools
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import names_of
from benchmarks.waiting_engine import (
    LATENCIES,
    SLOWER,
    STRAGGLERS,
    Engine,
    JumpingLoop,
    Numbers,
    Sampled,
    latencies,
    now,
)
from rlad_core.slots import SlotLedger
from rlad_core.standing_pool import StandingPool
from services.experience.pool import GroupPool

SPLITS = {"paper": (438.0, 53.0), "balanced": (245.5, 245.5)}
"""Seconds: rollouts of a batch, learner."""
console = Console(width=130)


@dataclass(frozen=True)
class Found:
    """What one case came to.

    Attributes:
        ratio: length of a step over the longer of the two stages. least_ratio: over the least that it can be.
        learner_idle, places_idle: shares of the time.
        asked_s: [groups, group], lengths of the responses that were trained on. seconds: what each took by
            the clock. old_s: those of them that were too old.
    """

    ratio: float
    least_ratio: float
    learner_idle: float
    places_idle: float
    asked_s: Numbers
    seconds: Numbers
    old_s: Numbers

    @property
    def old(self) -> float:
        """Share of tokens."""
        return float(self.old_s.sum() / self.seconds.sum())

    @property
    def groups_old(self) -> float:
        """Share of groups without a token that counts."""
        return float(self._uncounted.all(axis=1).mean())

    @property
    def _uncounted(self) -> npt.NDArray[np.bool_]:
        """Responses without such a token."""
        return self.old_s >= self.seconds

    def uncounted(self, parts: int) -> list[float]:
        """Share of responses without such a token, in so many parts by length, the shortest first.

        Responses of one length are in one part, and a part without any is nan.
        """
        lengths, nothing = self.asked_s.ravel(), self._uncounted.ravel()
        edges = np.quantile(lengths, np.arange(1, parts) / parts, method="lower")
        part = np.searchsorted(edges, lengths)
        return [
            float(nothing[part == each].mean()) if (part == each).any() else math.nan for each in range(parts)
        ]


async def measure(
    split: str,
    kind: str,
    bound: int,
    *,
    groups: int,
    group_size: int = 8,
    steps: int,
    warm_up: int,
    window: float,
    scale: float,
    seed: int = 0,
) -> Found:
    """Carry out one case; steps and `warm_up` are those that count and those before."""
    rollout_s, learner_s = (seconds / scale for seconds in seconds_of(split))
    count = steps + warm_up + bound + 1
    places = groups * group_size + (SLOWER if kind in STRAGGLERS else 0)
    engine = Engine(latencies(kind, rollout_s, (2 * count, groups, group_size), seed), places)
    ledger = SlotLedger((bound + 1) * groups)
    standing = StandingPool(
        ledger,
        prompts_per_step=groups,
        max_staleness=bound,
        # As `RunConfig.window` has it.
        window=max(1, int(round(window * (bound + 1) * groups, 6))) if bound and window else 0,
    )
    pool = GroupPool(ledger, standing, engine.begin)
    publishing: asyncio.Task[None] | None = None
    waited = begun = busy = 0.0
    trained: list[Sampled] = []
    old: list[Numbers] = []

    async def publish(version: int, batch: list[int]) -> None:
        await asyncio.sleep(0.01 * (rollout_s + learner_s))
        engine.versions.append((now(), version))
        pool.published(version, batch)

    def collect(step: int) -> asyncio.Task[list[Sampled]]:
        # The end of the run is far away for the pool: what drains it is not measured.
        return asyncio.create_task(pool.take(step, groups, 2 * count))

    coming = collect(0)
    for step in range(steps + warm_up):
        if step == warm_up:
            begun, busy, waited = now(), engine.busy_s, 0.0
        asked = now()
        batch = await coming
        waited += now() - asked
        if bound:
            coming = collect(step + 1)
        if step >= warm_up:
            trained += batch
            old += (engine.too_old(group, step, bound) for group in batch)
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
    whole = now() - begun
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)
    pool.close()
    a_step, work_s = whole / steps, float(engine.seconds.sum()) / (2 * count)
    return Found(
        ratio=a_step / max(rollout_s, learner_s),
        least_ratio=a_step / max(work_s / places, learner_s),
        learner_idle=waited / whole,
        places_idle=max(0.0, 1 - (engine.busy_s - busy) / (whole * places)),
        asked_s=engine.seconds[[group.position for group in trained]],
        seconds=np.array([group.seconds for group in trained]),
        old_s=np.array(old),
    )


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
    group_size: Annotated[int, typer.Option(min=1, help="Responses to each of them.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="That count.")] = 20,
    warm_up: Annotated[int, typer.Option(min=1, help="Steps before those that count.")] = 15,
    window: Annotated[float, typer.Option(min=0, max=1, help="overtake_window.")] = 0.3,
    scale: Annotated[float, typer.Option(min=1, max=10_000, help="One second here for so many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the latencies.")] = 0,
    jump: Annotated[bool, typer.Option(help="Waits take no time; nothing of this machine is in it.")] = False,
    by_length: Annotated[
        bool, typer.Option("--by-length", help="Also responses of which nothing counts, by tenths.")
    ] = False,
) -> None:
    """Measure all cases side by side, for they only wait, and print the table."""
    cases = list(
        itertools.product(split or SPLITS, latency or LATENCIES, [int(each) for each in bounds.split(",")])
    )

    def one(split: str, kind: str, bound: int) -> Coroutine[Any, Any, Found]:
        # On-policy no step hangs on the one before, and each takes both stages: three are enough to wait for.
        few = not (bound or jump)
        return measure(
            split, kind, bound, groups=groups, group_size=group_size, steps=min(steps, 3) if few else steps,
            warm_up=1 if few else warm_up, window=window, scale=scale, seed=seed,
        )  # fmt: skip

    async def side_by_side() -> list[Found]:
        return await asyncio.gather(*(one(*case) for case in cases))

    with asyncio.Runner(loop_factory=JumpingLoop if jump else None) as runner:
        found = runner.run(side_by_side())
    _show(cases, found, by_length)


def _show(cases: list[tuple[str, str, int]], found: list[Found], by_length: bool) -> None:
    shown = Table(
        "split", "latency", "k", "step / longest", "step / least", "learner idle", "places idle",
        "tokens old", "groups old", "nothing counts: shortest 1/4", "longest 1/4",
    )  # fmt: skip
    shown.columns[1].no_wrap = True
    tenths = Table("split", "latency", "k", "nothing counts, by tenths of the responses, the shortest first")
    for (name, kind, bound), of in zip(cases, found, strict=True):
        case = (name, kind, str(bound))
        quarters = of.uncounted(4)
        shares = (of.learner_idle, of.places_idle, of.old, of.groups_old, quarters[0], quarters[-1])
        shown.add_row(*case, f"{of.ratio:.3f}", f"{of.least_ratio:.3f}", *map(_percent, shares))
        tenths.add_row(*case, " ".join(map(_percent, of.uncounted(10))))
    console.print(shown)
    if by_length:
        console.print(tenths)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


if __name__ == "__main__":
    typer.run(main)
