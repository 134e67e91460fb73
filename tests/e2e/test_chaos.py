"""A run with stub engines under fire: `python -m tests.chaos`, which says what is real in it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SHORT = (
    *("--faults", "2", "--seed", "150", "--steps", "4", "--recipe", "serve", "--alone", "--limit", "1200"),
    *("--only", "learner rank", "--only", "the run's clock"),
)
"""First the clock jumps, then the rank is killed."""


def under_fire(*options: str) -> str:
    """What the command says; it has found the run as it must be."""
    command = [sys.executable, "-m", "tests.chaos", *options]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


@pytest.mark.long
def test_a_run_goes_on_from_a_killed_rank_and_a_clock_that_jumps() -> None:
    said = under_fire(*SHORT)
    assert "each of 16 visits once" in said, said
    assert "not done" not in said, said


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["serve", "http", "stale"])
def test_under_fire_nothing_is_lost_or_doubled(recipe: str) -> None:
    said = under_fire("--faults", "10", "--seed", "1", "--recipe", recipe)
    assert "10 faults" in said
