"""One command for all: start what has faults, and see each alert fire in Prometheus and reach Alertmanager.

    python -m deploy.prometheus.fire --out /tmp/fired
    python -m deploy.prometheus.fire --out /tmp/fired --only service

The rules are those that ship, with every time in them divided by 20, so that half an hour is 90 s. It leaves
fired.md (alert, fault, seconds from the one to the other, and whom Alertmanager tells) and all logs. It fails
if an alert does not fire in time. Needs Linux, root for `leak` (a node of its own is a cgroup), and
Debian or the programs of Prometheus and Alertmanager on PATH.
"""

import argparse
import sys
from pathlib import Path

from deploy.prometheus.alertmanager import telling
from deploy.prometheus.fire import leak, run, service
from deploy.prometheus.fire.watching import HASTENED, INTERVAL_S, StartError, Watching
from deploy.prometheus.server import serving

PARTS = {"leak": leak.strike, "service": service.strike, "run": run.strike}


def main() -> int:
    """The command; how many alerts should have fired and did not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder for everything that is left")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be given again")
    args = parser.parse_args()
    out: Path = args.out.absolute()
    out.mkdir(parents=True)
    with (
        telling(out / "alertmanager") as alertmanager,
        serving(
            out / "prometheus",
            announcements=str(out / "runs" / "scrape-*.json"),
            interval_s=INTERVAL_S,
            hastened=HASTENED,
            alertmanager=alertmanager.address,
        ) as prometheus,
    ):
        watching = Watching(prometheus, alertmanager)
        for part in args.only or PARTS:
            try:
                PARTS[part](out / "runs", watching)
            except StartError as error:
                watching.missed.append(f"{part}: {error}")
        (out / "fired.md").write_text(watching.table())
    print(watching.table())
    for each in watching.missed:
        print(f"not fired: {each}", file=sys.stderr)
    return len(watching.missed)


if __name__ == "__main__":
    sys.exit(main())
