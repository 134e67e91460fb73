"""A call of promtool that must succeed."""

import subprocess
from pathlib import Path


def promtool(programs: dict[str, Path], *arguments: str, folder: Path) -> str:
    """What it prints, called in `folder`."""
    done = subprocess.run(
        [programs["promtool"], *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
