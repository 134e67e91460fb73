"""The command: starts the services, attacks them, prints the table."""

import argparse
import importlib
import pkgutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.abuse import attacks
from tests.abuse.attacks import overload
from tests.abuse.served import serving
from tests.abuse.target import SERVICES, Effort, Target

ALL = tuple(sorted(module.name for module in pkgutil.iter_modules(attacks.__path__)))
_LONG_REQUESTS = 100_000


def main(arguments: list[str]) -> int:
    """Exit code: 1 if an attack did harm."""
    parser = argparse.ArgumentParser(prog="python -m tests.abuse", description=__doc__)
    parser.add_argument("--long", action="store_true", help="as much as it takes to be sure")
    parser.add_argument("--only", action="append", choices=ALL, metavar="ATTACK", help=", ".join(ALL))
    parser.add_argument(
        "--requests",
        type=int,
        help=f"made from the OpenAPI documents; {Effort.requests}, long {_LONG_REQUESTS}",
    )
    asked = parser.parse_args(arguments)
    requests = asked.requests or (_LONG_REQUESTS if asked.long else Effort.requests)
    effort = Effort(long=asked.long, requests=requests)
    with (
        tempfile.TemporaryDirectory(prefix="abuse-") as folder,
        serving(Path(folder) / "log", "all", *_settings(folder)) as (target, _),
    ):
        rows = [_row(name, target, effort) for name in asked.only or ALL]
    print("\n| attack | sent | what came of it |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    return int(any(row[2].startswith("HARM") for row in rows))


def _settings(folder: str) -> list[str]:
    """With which a few hundred clients are too many, and jobs are taken."""
    half = overload.PLACES // 2
    places = ("max_ongoing_requests", "max_queued_requests")
    return [
        *(f"--set={service}.{name}={half}" for service in SERVICES for name in places),
        *(f"--set={service}.jobs_dir={folder}/jobs-{service}" for service in SERVICES),
        # A caller has 100, those that have ended included.
        *(f"--set={service}.jobs.keep_s=20" for service in SERVICES),
    ]


def _row(name: str, target: Target, effort: Effort) -> tuple[str, str, str]:
    module = importlib.import_module(f"tests.abuse.attacks.{name}")
    began = time.monotonic()
    try:
        told = module.attack(target, effort)
    except Exception as error:  # noqa: BLE001 - it is what the table tells
        traceback.print_exc()
        told = f"HARM: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
    print(f"{name}, {time.monotonic() - began:.0f} s: {told}", file=sys.stderr, flush=True)
    return name, module.SENT, told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
