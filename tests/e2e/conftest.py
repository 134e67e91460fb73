"""One run that went through without a fault, for all that look at what a run leaves."""

import sys
from pathlib import Path

import pytest

# The test folders are no packages (pytest imports each file by itself); what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

from runs import finish, start


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that went through without a fault, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    return run_dir, finish(start(run_dir), run_dir)
