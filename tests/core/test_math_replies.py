"""Whole replies and their verdicts: which box counts, what denies one, thoughts, units behind a box."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlad_core.tasks.math.verifier import verify

REPLIES = [
    json.loads(line) for line in (Path(__file__).parent / "math_replies.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: f"{row['gold']}: {row['reply'][:60]}")
def test_a_reply_is_judged_by_the_answer_that_it_means(row: dict[str, str | bool]) -> None:
    verdict = verify(str(row["reply"]), str(row["gold"]))
    assert verdict.correct is row["right"], verdict.reason
