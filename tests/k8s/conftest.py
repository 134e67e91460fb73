"""The overlays as `kubectl kustomize` renders them, once for the session."""

import sys
from pathlib import Path

import pytest

# The test folders are no packages (pytest imports each file by itself); what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

from manifests import OVERLAYS, Manifest, render


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[Manifest]]:
    """Objects by overlay; `namespace` is what is applied before any of them."""
    return {name: render(path) for name, path in OVERLAYS.items()}
