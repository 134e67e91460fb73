"""Answers that are the gold one and answers that are not, of every kind: math_pairs.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlad_core.tasks.math.notation import Unreadable
from rlad_core.tasks.math.verifier import equal, verify, warm_up

PAIRS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "math_pairs.jsonl").read_text().splitlines()
]
CASES = Path(__file__).parents[3] / "shared" / "data" / "cases" / "verdicts.jsonl"


@pytest.fixture(scope="module", autouse=True)
def loaded_algebra() -> None:
    warm_up()


def accepted(gold: str, answer: str) -> bool:
    try:
        return equal(gold, answer)
    except Unreadable:
        return False


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: f"{row['kind']}: {row['gold']}")
def test_right_answers_are_accepted_and_wrong_ones_refused(row: dict[str, Any]) -> None:
    gold = row["gold"]
    assert [answer for answer in row["right"] if not accepted(gold, answer)] == []
    assert [answer for answer in row["wrong"] if accepted(gold, answer)] == []
    assert accepted(gold, gold)


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: f"{row['kind']}: {row['gold']}")
def test_a_box_around_it_changes_nothing(row: dict[str, Any]) -> None:
    """In a reply, of the first answers."""
    for answers, right in ((row["right"][:3], True), (row["wrong"][:3], False)):
        for answer in answers:
            reply = f"We compute.\n\nSo the answer is $$\\boxed{{{answer}}}.$$"
            assert verify(reply, row["gold"]).correct is right, answer


def test_the_table_is_large_and_has_both() -> None:
    assert sum(len(row["right"]) for row in PAIRS) > 500
    assert sum(len(row["wrong"]) for row in PAIRS) > 450


@pytest.mark.skipif(not CASES.exists(), reason="the sample cases are not here")
def test_the_sample_cases() -> None:
    rows = [json.loads(line) for line in CASES.read_text().splitlines()]
    wrong = [row for row in rows if verify(row["answer"], row["gold"]).correct is not row["right"]]
    assert wrong == []
