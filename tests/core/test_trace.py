"""Every line of a worked solution is true, checked from its words alone; the reply earns the whole reward."""

from __future__ import annotations

import itertools
import re

import pytest

from rlad_core.tasks.knights_knaves import generator, perturbations, trace
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.task import KnightsKnaves

COUNTS = {2: 150, 3: 150, 4: 60, 5: 30}
LINE = re.compile(r"According to (\w+) (.+); (\w+) fits: ([a-z ]+)\.")
CLAIM = re.compile(r"(\w+) is (not )?a (knight|knave), for (\w+) ([a-z ]+)")
BITS = {"yes": True, "no": False}


@pytest.fixture(scope="module", params=COUNTS)
def puzzles(request: pytest.FixtureRequest) -> list[Puzzle]:
    return generator.generate(request.param, "train", 21, COUNTS[request.param])


def truths(words: str) -> list[bool]:
    return [BITS[word] for word in words.split(" ")]


def claim_holds(text: str, cases: list[dict[str, str]]) -> list[bool]:
    """What one claim is said to be in each case; asserts that it is so."""
    match = CLAIM.fullmatch(text)
    assert match, text
    name, negated, word, again, said = match.groups()
    assert again == name
    assert truths(said) == [(roles[name] == word) != bool(negated) for roles in cases], text
    return truths(said)


def statement_holds(text: str, cases: list[dict[str, str]]) -> list[bool]:
    """What a statement in words is said to be in each case; asserts that it follows from its claims."""
    if ", so: " not in text:
        return claim_holds(text, cases)
    text, said = text.split(", so: ")
    if text.startswith("If "):
        left, right = text.removeprefix("If ").split(" then ")
        table = lambda a, b: b if a else True  # noqa: E731
    else:
        joint, table = next(
            (joint, table)
            for joint, table in (
                (" if and only if ", lambda a, b: a is b),
                (" and ", lambda a, b: a and b),
                (" or ", lambda a, b: a or b),
            )
            if joint in text
        )
        left, right = text.split(joint)
    claims = zip(claim_holds(left, cases), claim_holds(right, cases), strict=True)
    assert truths(said) == [table(a, b) for a, b in claims], text
    return truths(said)


def check(puzzle: Puzzle, truthful: str) -> None:
    """Read the reasoning as a person would; `truthful` is the role that tells the truth on this island."""
    first, *lines, last = trace.reasoning(puzzle).split("\n")
    liar = {"knight": "knave", "knave": "knight"}[truthful]
    cases = [
        dict(zip(puzzle.names, roles, strict=True))
        for roles in itertools.product((truthful, liar), repeat=len(puzzle.names))
    ]
    rows = (" ".join([name, *(roles[name] for roles in cases)]) for name in puzzle.names)
    assert first == f"Cases: {'; '.join(rows)}."
    left = [True] * len(cases)
    for number, (name, line) in enumerate(zip(puzzle.names, lines, strict=True)):
        match = LINE.fullmatch(line)
        assert match, line
        speaker, says, again, fits = match.groups()
        assert speaker == again == name
        # The puzzle's own sentence, once the judgements are left out.
        assert re.sub(r"(, for \w+|, so:)( (yes|no))+", "", says) in puzzle.sentence(number)
        holds = statement_holds(says, cases)
        assert truths(fits) == [h == (c[name] == truthful) for h, c in zip(holds, cases, strict=True)]
        left = [a and b for a, b in zip(left, truths(fits), strict=True)]
    match = re.fullmatch(r"All fit: ([a-z ]+), case (\d+)\.", last)
    assert match, last
    assert truths(match[1]) == left
    assert sum(left) == 1
    assert tuple(cases[int(match[2]) - 1].values()) == puzzle.roles
    assert left[int(match[2]) - 1]


def test_every_line_is_true(puzzles: list[Puzzle]) -> None:
    for puzzle in puzzles:
        check(puzzle, truthful="knight")


def test_every_line_is_true_where_knights_lie(puzzles: list[Puzzle]) -> None:
    for puzzle in puzzles[:20]:
        check(perturbations.flipped_roles(puzzle), truthful="knave")


def test_the_demonstration_earns_the_whole_reward(puzzles: list[Puzzle]) -> None:
    knights = KnightsKnaves()
    for puzzle in puzzles:
        verdict = knights.verify(knights.demonstration(puzzle.to_gold()), puzzle.to_gold())
        assert (verdict.reward, verdict.correct) == (3, True), verdict.reason


def test_the_example_of_the_docstring() -> None:
    puzzle = Puzzle(
        names=("Mia", "Ed"),
        statements=(("lying", 1), ("->", ("lying", 0), ("telling-truth", 1))),
        solution=(False, True),
        wording=(0, 0),
    )
    assert trace.reasoning(puzzle).split("\n") == [
        "Cases: Mia knight knight knave knave; Ed knight knave knight knave.",
        "According to Mia Ed is a knave, for Ed no yes no yes; Mia fits: no yes yes no.",
        "According to Ed If Mia is a knave, for Mia no no yes yes then Ed is a knight, for Ed yes no yes no, "
        "so: yes yes yes no; Ed fits: yes no yes yes.",
        "All fit: no no yes no, case 3.",
    ]
