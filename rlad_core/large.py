"""From which size on a model is large, so that settings with ``auto`` spare memory instead of time."""

from typing import Final

LARGE_FROM_PARAMETERS: Final = 100_000_000
"""Below it a model is small beside what else is in memory."""
