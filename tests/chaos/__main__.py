"""The command: a run without faults, one with them, and whether both left the same."""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.faults import TITLES, drawn
from tests.chaos.runs import Left, carry_out

STEPS = 6


def main(arguments: list[str]) -> int:
    """Exit code: 1 if anything was lost, doubled or other than without faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", action="append", choices=TITLES, metavar="PART", help=", ".join(TITLES))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new one, for the runs and their logs")
    asked = parser.parse_args(arguments)
    faults = drawn(asked.faults, asked.seed, asked.steps, asked.only or list(TITLES))
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = asked.keep or Path(temporary)
        quiet = carry_out(folder, "quiet", asked.steps)
        fired = carry_out(folder, "fired", asked.steps, faults)
    counts = Counter((str(fault), told) for fault, told in fired.told)
    print("| fault | how often | what came of it |\n|---|---|---|")
    for (fault, told), count in sorted(counts.items()):
        print(f"| {fault} | {count} | {told} |")
    print(f"\n{fired.starts} starts; {_compared(quiet, fired)}")
    return int(quiet.weights != fired.weights or quiet.ledger != fired.ledger)


def _compared(quiet: Left, fired: Left) -> str:
    weights = "the same weights" if quiet.weights == fired.weights else "OTHER WEIGHTS"
    ledger = "the same ledger" if quiet.ledger == fired.ledger else "ANOTHER LEDGER"
    return f"{weights} ({fired.weights[:16]}) and {ledger} ({len(fired.ledger)} visits) as without faults"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
