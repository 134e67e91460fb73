"""A rollout service with two replicas, started once for all tests that need one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The test folders are no packages (pytest imports each file by itself); what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

from rollout_service import StartedRollouts, start_rollouts


@pytest.fixture(scope="session")
def rollouts(ray_cluster: None, tiny_model) -> Iterator[StartedRollouts]:
    """Two replicas of the tied tiny model."""
    with start_rollouts("pair", tiny_model, num_replicas=2) as started:
        yield started
