"""A field of several kinds is refused once, with the path that somebody wrote."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from rlad_core.sections.base import Section
from rlad_core.sections.findings import problems_of


class Part(Section):
    size: PositiveInt


class Many(Section):
    weight: PositiveFloat | dict[str, PositiveFloat] | None = None
    count: Literal["auto"] | PositiveInt = "auto"
    parts: tuple[Part | str, ...] = Field(default=(), strict=False)
    by_name: dict[str, int | Part] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"weight": 0}, ["weight (0): must be above 0.0. Write a number above 0.0."]),
        ({"weight": {"math": 0}}, ["weight.math (0): must be above 0.0. Write a number above 0.0."]),
        (
            {"weight": {"a": 0, "b": "x"}},
            [
                "weight.a (0): must be above 0.0. Write a number above 0.0.",
                "weight.b ('x'): is no number. Write one, such as 0.5.",
            ],
        ),
        (
            {"weight": "much"},
            ["weight ('much'): is no number. Write one, such as 0.5, or its keys below it, as 'key: value'."],
        ),
        ({"count": 0}, ["count (0): must be above 0. Write a number above 0."]),
        ({"count": "atuo"}, ["count ('atuo'): is not known. Write auto, or one, such as 8."]),
        ({"parts": ["a", {"size": 0}]}, ["parts.1.size (0): must be above 0. Write a number above 0."]),
        ({"parts": [{"siz": 1, "size": 1}]}, ["parts.0.siz (1): no such key. Did you mean size?"]),
        (
            {"by_name": {"x": {"size": "y"}}},
            ["by_name.x.size ('y'): is no whole number. Write one, such as 8."],
        ),
        (
            {"weight": 0, "count": 0},
            [
                "weight (0): must be above 0.0. Write a number above 0.0.",
                "count (0): must be above 0. Write a number above 0.",
            ],
        ),
    ],
)
def test_it_is_one_line(values: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        Many.model_validate(values)
    assert [str(problem) for problem in problems_of(caught.value, Many)] == says
