"""Every line of a worked solution is true, checked from its words alone; the reply earns the whole reward."""

from __future__ import annotations

import itertools
import re

import pytest

from rlad_core.tasks import task
from rlad_core.tasks.knights_knaves import generator, perturbations, trace
from rlad_core.tasks.knights_knaves.puzzle import Puzzle

COUNTS = {2: 150, 3: 150, 4: 60, 5: 30}
LINE = re.compile(r"(\w+): (.+), (true|false); (\w+), a (knight|knave): (fits|contradiction)\.")
CLAIM = re.compile(r"(\w+) is (not )?a (knight|knave) \(as (\w+, a \w+): (yes|no)\)")


@pytest.fixture(scope="module", params=COUNTS)
def puzzles(request: pytest.FixtureRequest) -> list[Puzzle]:
    return generator.generate(request.param, "train", 21, COUNTS[request.param])


def claim_holds(text: str, roles: dict[str, str]) -> bool:
    """Whether one claim is true under these roles; asserts that what it says of it is so."""
    match = CLAIM.fullmatch(text)
    assert match, text
    name, negated, word, supposed, said = match.groups()
    assert supposed == f"{name}, a {roles[name]}", text
    holds = (roles[name] == word) != bool(negated)
    assert (said == "yes") == holds, text
    return holds


def statement_holds(text: str, roles: dict[str, str]) -> bool:
    """Whether a statement in words is true under these roles."""
    if text.startswith("If "):
        condition, consequence = text.removeprefix("If ").split(" then ")
        premise, conclusion = claim_holds(condition, roles), claim_holds(consequence, roles)
        return conclusion if premise else True
    for joint, table in (
        (" if and only if ", lambda a, b: a is b),
        (" and ", lambda a, b: a and b),
        (" or ", lambda a, b: a or b),
    ):
        if joint in text:
            left, right = text.split(joint)
            return table(claim_holds(left, roles), claim_holds(right, roles))
    return claim_holds(text, roles)


def check(puzzle: Puzzle, truthful: str) -> None:
    """Read the reasoning as a person would; `truthful` is the role that tells the truth on this island."""
    lines = trace.reasoning(puzzle).split("\n")
    assert lines.pop() == "Everything fits."
    liar = {"knight": "knave", "knave": "knight"}[truthful]
    expected = itertools.product((truthful, liar), repeat=len(puzzle.names))
    while lines:
        supposed = dict(zip(puzzle.names, next(expected), strict=True))
        people = "; ".join(f"{name}, a {word}" for name, word in supposed.items())
        assert lines.pop(0) == f"Suppose {people}."
        for number, name in enumerate(puzzle.names):
            match = LINE.fullmatch(lines.pop(0))
            assert match
            speaker, says, truth, again, word, verdict = match.groups()
            assert (speaker, again, word) == (name, name, supposed[name])
            # The puzzle's own sentence, once the marks of the check are left out.
            assert re.sub(r" \(as \w+, a (knight|knave): (yes|no)\)", "", says) in puzzle.sentence(number)
            holds = statement_holds(says, supposed)
            assert truth == ("true" if holds else "false")
            fits = holds == (word == truthful)
            assert verdict == ("fits" if fits else "contradiction")
            if not fits:
                assert lines, "a contradiction is no end"
                break
        else:
            assert not lines, "the first assignment that fits is the last"
            assert tuple(supposed.values()) == puzzle.roles


def test_every_line_is_true(puzzles: list[Puzzle]) -> None:
    for puzzle in puzzles:
        check(puzzle, truthful="knight")


def test_every_line_is_true_where_knights_lie(puzzles: list[Puzzle]) -> None:
    for puzzle in puzzles[:20]:
        check(perturbations.flipped_roles(puzzle), truthful="knave")


def test_the_demonstration_earns_the_whole_reward(puzzles: list[Puzzle]) -> None:
    knights = task("knights_knaves")
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
        "Suppose Mia, a knight; Ed, a knight.",
        "Mia: Ed is a knave (as Ed, a knight: no), false; Mia, a knight: contradiction.",
        "Suppose Mia, a knight; Ed, a knave.",
        "Mia: Ed is a knave (as Ed, a knave: yes), true; Mia, a knight: fits.",
        "Ed: If Mia is a knave (as Mia, a knight: no) then Ed is a knight (as Ed, a knave: no), "
        "true; Ed, a knave: contradiction.",
        "Suppose Mia, a knave; Ed, a knight.",
        "Mia: Ed is a knave (as Ed, a knight: no), false; Mia, a knave: fits.",
        "Ed: If Mia is a knave (as Mia, a knave: yes) then Ed is a knight (as Ed, a knight: yes), "
        "true; Ed, a knight: fits.",
        "Everything fits.",
    ]
