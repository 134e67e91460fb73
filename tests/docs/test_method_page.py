"""What docs/method.md shows of DPO is what its command computes."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from pages import page, sections

from benchmarks import dpo_limit

SECTION = sections(page("method.md"))["What it has to do with DPO"]


def numbers(text: str) -> list[list[float]]:
    """Of each row of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if re.match(r"\| [\d.]+ \|", line)]
    return [[float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", line)] for line in lines]


def heads(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| distance")]


@pytest.fixture(scope="module")
def away() -> list[dpo_limit.Row]:
    return dpo_limit.rows(policy_moves=True)


@pytest.fixture(scope="module")
def old() -> list[dpo_limit.Row]:
    return dpo_limit.rows(policy_moves=False)


def test_the_tables_are_those_of_the_command(away: list[dpo_limit.Row], old: list[dpo_limit.Row]) -> None:
    assert "    python -m benchmarks.dpo_limit\n" in SECTION
    computed = dpo_limit.tables(away, old)
    assert heads(SECTION) == heads(computed)
    shown, found = numbers(SECTION), numbers(computed)
    assert len(shown) == len(found) == 2 * len(dpo_limit.DISTANCES)
    for here, there in zip(shown, found, strict=True):  # the last digit may be another machine's
        assert here == pytest.approx(there, abs=0.0101)


def test_they_say_what_the_text_says(away: list[dpo_limit.Row], old: list[dpo_limit.Row]) -> None:
    assert [*away[0].cosines, *away[0].lengths] == pytest.approx([1] * 6)
    for nearer, farther in pairwise(away):
        assert all(one > other for one, other in zip(nearer.cosines, farther.cosines, strict=True))
    assert all(row.cosines[0] > row.cosines[1] > row.cosines[2] for row in away[1:])
    assert all((row.cosines[-1], row.lengths[-1]) == pytest.approx((1, 1)) for row in old)
    assert all(row.cosines[0] < row.cosines[1] < row.cosines[2] for row in old[1:])
