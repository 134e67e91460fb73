"""Altered puzzles: still one solution, altered in the one way that was asked for."""

import random
from collections.abc import Callable

import pytest

from rlad_core.tasks.knights_knaves import perturbations
from rlad_core.tasks.knights_knaves.generator import generate, split_of
from rlad_core.tasks.knights_knaves.islanders import OTHERS
from rlad_core.tasks.knights_knaves.names import UNCOMMON
from rlad_core.tasks.knights_knaves.prompt import reply
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.statements import LEAVES, Statement, solve
from rlad_core.tasks.knights_knaves.verifier import verify

PUZZLES = [puzzle for people in (2, 3, 4, 8) for puzzle in generate(people, "train", 11, 25)]


def leaves(statement: Statement) -> list[Statement]:
    if statement[0] in LEAVES:
        return [statement]
    return [leaf for part in statement[1:] for leaf in leaves(part)]


def operators(statement: Statement) -> list[str]:
    return [] if statement[0] in LEAVES else [statement[0], *(operators(part) for part in statement[1:])]


@pytest.mark.parametrize("alter", [perturbations.another_statement, perturbations.another_leaf])
def test_one_person_says_something_else_and_the_solution_changes(
    alter: Callable[[Puzzle, random.Random], Puzzle | None],
) -> None:
    rng = random.Random(0)
    found = 0
    for puzzle in PUZZLES:
        altered = alter(puzzle, rng)
        if altered is None:
            continue
        found += 1
        assert solve(altered.statements) == [altered.solution] != [puzzle.solution]
        assert (altered.names, altered.wording) == (puzzle.names, puzzle.wording)
        pairs = list(zip(puzzle.statements, altered.statements, strict=True))
        changed = [(speaker, old, new) for speaker, (old, new) in enumerate(pairs) if old != new]
        assert len(changed) == 1
        speaker, old, new = changed[0]
        assert ("lying", speaker) not in leaves(new)
        assert len(set(leaves(new))) == len(leaves(new))
        if alter is perturbations.another_leaf:
            assert operators(old) == operators(new)
            assert sum(a != b for a, b in zip(leaves(old), leaves(new), strict=True)) == 1
    assert found > len(PUZZLES) * 0.6


def test_no_leaf_to_change() -> None:
    """Some small puzzles allow no other leaf; that is said, not papered over with something else."""
    unalterable = [
        puzzle for puzzle in PUZZLES if perturbations.another_leaf(puzzle, random.Random(0)) is None
    ]
    assert unalterable
    for puzzle in unalterable[:5]:
        assert perturbations.another_leaf(puzzle, random.Random(1)) is None


def test_other_names() -> None:
    for puzzle in PUZZLES:
        altered = perturbations.other_names(puzzle, random.Random(0))
        assert set(altered.names) <= set(UNCOMMON)
        assert (altered.statements, altered.solution) == (puzzle.statements, puzzle.solution)
        assert not any(name in altered.text for name in puzzle.names)
        again = perturbations.other_names(puzzle, random.Random(0), "common")
        assert not set(again.names) & set(puzzle.names)


def test_flipped_roles() -> None:
    puzzle = PUZZLES[0]
    altered = perturbations.flipped_roles(puzzle)
    assert "Knaves always tell the truth, and knights always lie." in altered.text
    exchanged = puzzle.solution_text.replace("knight", "?").replace("knave", "knight").replace("?", "knave")
    assert altered.solution_text == exchanged
    assert verify(reply("...", altered.solution_text), altered).correct
    assert verify(reply("...", puzzle.solution_text), altered).parts == {"format": 1.0, "answer": -1.5}
    assert perturbations.flipped_roles(altered) == puzzle
    assert altered.content_id != puzzle.content_id


def test_other_roles() -> None:
    puzzle = PUZZLES[0]
    altered = perturbations.other_roles(puzzle, random.Random(0))
    assert altered.islanders in OTHERS
    assert "knight" not in altered.text + altered.solution_text
    assert "knave" not in altered.text + altered.solution_text
    assert (altered.names, altered.statements, altered.solution) == (
        puzzle.names,
        puzzle.statements,
        puzzle.solution,
    )
    assert verify(reply("...", altered.solution_text), altered).correct
    assert perturbations.other_roles(altered, random.Random(0)).islanders != altered.islanders
    assert {perturbations.other_roles(puzzle, random.Random(seed)).islanders for seed in range(60)} == set(
        OTHERS
    )


@pytest.mark.parametrize("kind", perturbations.KINDS)
@pytest.mark.parametrize("people", [2, 3, 5])
def test_altered_puzzles_stay_in_their_split(kind: str, people: int) -> None:
    altered = perturbations.generate(kind, people, "test", 7, 12)
    assert altered == perturbations.generate(kind, people, "test", 7, 20)[:12]
    assert len({puzzle.text for puzzle in altered}) == 12
    assert {split_of(puzzle.names, puzzle.statements) for puzzle in altered} == {"test"}
    assert all(solve(puzzle.statements) == [puzzle.solution] for puzzle in altered)
    if kind in ("random_pair", "flip_role", "reorder_statement"):
        plain = generate(people, "test", 7, 12)
        assert [(p.names, p.statements) for p in altered] == [(p.names, p.statements) for p in plain]


def test_a_kind_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="perturbation 'louder' is unknown; write one of perturbed_st"):
        perturbations.generate("louder", 3, "test", 0, 1)


def test_reordered() -> None:
    for puzzle in PUZZLES:
        altered = perturbations.reordered(puzzle, random.Random(0))
        people = range(len(puzzle.names))
        assert altered.text != puzzle.text
        assert all(altered.sentence(person) == puzzle.sentence(person) for person in people)
        assert all(f" {puzzle.sentence(person)} " in altered.text for person in people)
        assert altered.solution_text == puzzle.solution_text
        assert altered.content_id == puzzle.content_id
        assert Puzzle.from_gold(altered.to_gold()) == altered
