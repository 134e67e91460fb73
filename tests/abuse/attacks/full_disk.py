"""The disk of Ray's logs and of all temporary files is full while a service runs."""

import os
import tempfile
from pathlib import Path

from tests.abuse.served import serving
from tests.abuse.target import SMALL, Effort, Target

SENT = "a full disk under logs and temporary files (a tmpfs of 64 MiB)"
_SIZE = "64m"
_PATH = "/v1/verify"


def attack(target: Target, effort: Effort) -> str:
    """What is asked is answered all the same, and the service goes on when there is room again."""
    with tempfile.TemporaryDirectory(prefix="full-") as place:
        disk = Path(place) / "disk"
        disk.mkdir()
        # A mount of the process's own, which ends with it.
        mounted = ["unshare", "--mount", "--map-root-user"] if os.geteuid() else ["unshare", "--mount"]
        script = f'mount -t tmpfs -o size={_SIZE} none "$0" && exec "$@"'
        through = [*mounted, "sh", "-c", script, str(disk)]
        log = Path(place) / "log"
        with (
            serving(log, "verifier", through=through, RAY_TMPDIR=str(disk), TMPDIR=str(disk)) as (served, _),
            served.client() as http,
        ):
            inside = Path(f"/proc/{served.root}/root{disk}/filling")
            answered = 0
            with inside.open("wb", buffering=0) as filling:
                try:
                    while True:
                        filling.write(bytes(2**20))
                except OSError:
                    pass
            for _ in range(200 if effort.long else 20):
                answer = http.post(_PATH, json=SMALL["verifier"]).raise_for_status()
                assert answer.json()["results"][0]["reward"] == 1.0
                http.post(_PATH, content=b"{").json()  # refused, which is logged
                answered += 1
            assert http.get("/readyz").status_code == 200
            inside.unlink()
            http.post(_PATH, json=SMALL["verifier"]).raise_for_status()
    return f"{answered} requests answered right on a full disk, and stopped in order"
