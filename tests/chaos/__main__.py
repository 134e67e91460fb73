"""The command: runs without faults, runs with them, and whether both left the same."""

import argparse
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.faults import KINDS, PARTS, drawn
from tests.chaos.recipe import Recipe
from tests.chaos.runs import HarmError, Left, RunUnderFire
from tests.chaos.surroundings import surroundings

STEPS = 12
PER_RUN = 10
LIMIT_S = 240.0
RECIPES = {"serve": ("serve", 0), "http": ("http", 0), "stale": ("serve", 2)}
"""Name -> the teacher's kind, and max_staleness."""


def main(arguments: list[str]) -> int:
    """Exit code: 1 if anything was lost, doubled or other than without faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--per-run", type=int, default=PER_RUN, help="faults in one run")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="all in turn, if none is named")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--kind", action="append", choices=KINDS, help="all, if none is named")
    parser.add_argument(
        "--alone",
        action="store_true",
        help="no run without faults to compare with: each visit once is enough",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT_S,
        metavar="S",
        help="for the next step, or the end of a run, whose own waits have a quarter of it, or half",
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for the logs")
    asked = parser.parse_args(arguments)
    counts = [min(asked.per_run, asked.faults - begun) for begun in range(0, asked.faults, asked.per_run)]
    names = asked.recipe or list(RECIPES)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        for place, name in enumerate(names):
            own = {run: count for run, count in enumerate(counts) if run % len(names) == place}
            if own:
                bad += _under_fire(asked, name, own, (asked.keep or Path(temporary)) / name)
    return int(bad > 0)


def _under_fire(asked: argparse.Namespace, name: str, counts: dict[int, int], folder: Path) -> int:
    """The runs of one recipe; how many of them are not as they must be."""
    teacher, staleness = RECIPES[name]
    made, bad = Recipe(asked.steps, teacher, staleness, limit_s=asked.limit / 4), 0
    told: Counter[tuple[str, str]] = Counter()
    starts = behind = 0
    with surroundings(folder, teacher=teacher == "http") as around:
        for part, why in around.missing.items():
            print(f"{name}: left out: {part}, for {why}", flush=True)
        parts = [part for part in asked.only or PARTS if part not in around.missing]
        alone = asked.alone or staleness > 0  # where weights meet which visit depends on the time
        quiet = None if alone else RunUnderFire(made, "quiet", around, limit_s=asked.limit).carry_out()
        for run, count in counts.items():
            faults = drawn(count, f"{asked.seed}-{run}", asked.steps, parts, asked.kind or KINDS)
            try:
                run_of_it = RunUnderFire(made, f"fired-{run}", around, faults, limit_s=asked.limit)
                fired = run_of_it.carry_out()
                said = _compared(quiet, fired)
            except HarmError as error:
                bad += 1
                print(f"{name}, run {run}: HARM: {error}", flush=True)
                continue
            bad += said.isupper()
            starts, behind = starts + fired.starts, behind + fired.behind
            told.update((str(fault), what) for fault, what in fired.told)
            print(f"{name}, run {run}: {count} faults, {fired.starts} starts: {said}", flush=True)
    print("\n| fault | times | what came of it |\n|---|---|---|")
    for (fault, what), times in sorted(told.items()):
        print(f"| {fault} | {times} | {what} |")
    print(f"\n{name}: {starts} starts; {behind} processes outlived their driver by 20 s\n", flush=True)
    return bad


def _compared(quiet: Left | None, fired: Left) -> str:
    """In capitals what must not be."""
    if quiet is None:
        return f"each of {len(fired.ledger)} visits once"  # as `rlad ledger` has said
    if quiet.weights != fired.weights:
        return "OTHER WEIGHTS"
    if quiet.ledger != fired.ledger:
        return "ANOTHER LEDGER"
    return f"the weights ({fired.weights[:16]}) and the ledger ({len(fired.ledger)} visits) of the quiet run"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left running, nor mounted
    sys.exit(main(sys.argv[1:]))
