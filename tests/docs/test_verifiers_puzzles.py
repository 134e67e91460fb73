"""The examples of docs/verifiers.md about Knights and Knaves."""

import re

import pytest
from pages import page, sections

from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.verifier import verify

TEXT = sections(page("verifiers.md"))["Knights and Knaves"]
PUZZLE = Puzzle(
    names=("Zoey", "Owen", "Liam"),
    statements=(("not", ("telling-truth", 1)), ("lying", 0), ("lying", 0)),
    solution=(True, False, False),
    wording=(0, 0, 0),
)
_ROW = re.compile(r"^\| `(.+?)` \| (-?[\d.]+) \|(?: (-?[\d.]+) \|)?", re.MULTILINE)
ROWS = [(turn, float(here), theirs) for turn, here, theirs in _ROW.findall(TEXT)]


def read(turn: str) -> str:
    """A turn as the page writes it."""
    return turn.replace("RIGHT", PUZZLE.solution_text).replace("\\n", "\n").replace("\\|", "|")


def logic_rl(turn: str) -> float:
    """What its reward is, worked out from section 2.2 of the paper and the rules of its public reader.

    Form: each tag once and in order. Answer: as many role words as people, and of each person one claim.
    """
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    places = [turn.find(tag) for tag in tags]
    if any(turn.count(tag) != 1 for tag in tags) or places != sorted(places):
        return -3.0
    answer = turn[places[2] : places[3]]
    claims = [re.search(rf"\b{name}\s+is\s+a\s+(knight|knave)\b", answer, re.I) for name in PUZZLE.names]
    if len(re.findall("knight|knave", answer, re.I)) != len(claims) or None in claims:
        return -1.0
    said = tuple(claim[1].lower() for claim in claims if claim)
    return 3.0 if said == PUZZLE.roles else -0.5


def test_the_page_has_examples_of_both_kinds() -> None:
    assert "```\n" + PUZZLE.solution_text + "\n```" in TEXT
    assert sum(1 for *_, theirs in ROWS if theirs) == 8
    assert len(ROWS) == TEXT.count("\n| `")


@pytest.mark.parametrize(("turn", "here", "theirs"), ROWS)
def test_each_example_is_judged_as_the_page_says(turn: str, here: float, theirs: str) -> None:
    verdict = verify(read(turn), PUZZLE)
    assert (verdict.reward, verdict.correct) == (here, here == 3), verdict.reason
    assert logic_rl(read(turn)) == float(theirs or here)
