"""The command: three hosts with Ray, to be looked at by hand."""

import signal
import sys
import tempfile
from pathlib import Path

from tests.hosts.namespaces import UnavailableError
from tests.hosts.ray_nodes import PLACED, ray_hosts
from tests.hosts.runs import entering


def main() -> int:
    """Exit code: 1 where this machine cannot make hosts."""
    with tempfile.TemporaryDirectory(prefix="runs-") as runs:
        try:
            with ray_hosts(Path(runs)) as cluster:
                placed = " ".join(f"--set '{each}'" for each in PLACED)
                run = f"{sys.executable} -m services run kk-tiny-trrd {placed}"
                where = f"--set output.dir={runs} --set cluster.address={cluster.address}"
                print(f"{entering(cluster)}\n\non the head:\n  {run} {where}\n\nCtrl-C ends all")
                signal.sigwait({signal.SIGINT, signal.SIGTERM})
        except UnavailableError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
