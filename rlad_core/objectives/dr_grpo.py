"""Dr. GRPO: GRPO without its two normalisations.

A = reward - mean of the group, not divided by the group's standard deviation, which would weigh questions
that are nearly always or nearly never answered more than others; and a response's tokens are summed and
divided by a constant, ``fixed_length``, not by its own length, which would favour long wrong responses.

Source: "Understanding R1-Zero-Like Training", arXiv 2503.20783.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rlad_core.objectives.aggregation import Aggregation
from rlad_core.objectives.grpo import GRPO


class DrGRPO(GRPO):
    """GRPO without division by the group's spread and the response's length."""

    scales_advantage: ClassVar[bool] = False

    kind: str = "dr_grpo"
    aggregation: Aggregation = Field(
        default="fixed_length", description="Dr. GRPO's own is fixed_length: sums divided by fixed_length."
    )
