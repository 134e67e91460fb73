"""A run with stub engines under fire: `python -m tests.chaos`, which says what is real in it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("part", ["driver", "learner rank", "collector", "journal"])
def test_a_run_that_loses_it_ends_with_the_same_weights_and_ledger(part: str) -> None:
    root = Path(__file__).parents[2]
    # Whether it is killed or stopped for seconds, and when, is the seed's.
    command = [sys.executable, "-m", "tests.chaos", "--faults", "2", "--seed", "1", "--steps", "4"]
    done = subprocess.run([*command, "--only", part], cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
