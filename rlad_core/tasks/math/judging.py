"""How answers are judged, as a recipe, a verifier service or a test says it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlad_core.sections.base import Section

BoxPolicy = Literal["last", "only"]
Where = Literal["rounded", "any"]


class Judging(Section):
    """How answers are judged; docs/verifiers.md has the policy. Recipes and services share it."""

    box: BoxPolicy = Field(
        default="last",
        description="last: the last box of a reply counts; only: all its boxes have to say the same.",
    )
    relative_tolerance: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Of a number, by which an answer may differ; 0: compared exactly.",
    )
    tolerate: Where = Field(
        default="rounded",
        description="Where the tolerance holds. rounded: gold answers with a decimal point; any: all.",
    )
