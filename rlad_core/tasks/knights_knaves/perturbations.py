"""Six ways to alter a puzzle, to tell a model that reasons from one that remembers.

After the tests for memorisation of arXiv 2410.23123: a model that has learnt to solve a puzzle solves its
altered versions too. `KINDS` has them by the names of the published sets. Another statement or leaf changes
the solution, the others do not change who tells the truth.

Another statement or leaf makes another puzzle, which may belong to another split, and so do other names where
there are two people: `generate` makes only puzzles whose altered version stays in its split.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from rlad_core.tasks.knights_knaves import generator, islanders
from rlad_core.tasks.knights_knaves import names as name_pools
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.statements import LEAVES, Statement, sample_statement, solve

# About one draw in five fits; a puzzle for which so many do not has no other statement to offer.
_DRAWS = 2000
# Tries to alter one puzzle so that it stays in its split; a held-out one holds a tenth of all.
_TRIES = 40


def generate(
    kind: str, people: int, split: str, seed: int, count: int, name_pool: str = "common"
) -> list[Puzzle]:
    """Altered versions of the puzzles that `generator.generate` makes for the same arguments.

    Those that cannot be altered so are left out, and further ones taken in their place.

    Args:
        kind: one of `KINDS`.

    Raises:
        ValueError: an argument is outside what there is, or the split does not hold that many puzzles.
    """
    if kind not in KINDS:
        raise ValueError(f"perturbation {kind!r} is unknown; write one of {', '.join(KINDS)}")
    altered: dict[str, Puzzle] = {}
    wanted, looked_at = count, 0
    while len(altered) < count:
        puzzles = generator.generate(people, split, seed, wanted, name_pool)
        for puzzle in puzzles[looked_at:]:
            rng = random.Random(f"{kind} of {puzzle.content_id}, seed {seed}")
            if len(altered) < count and (other := _in_split(KINDS[kind], puzzle, split, rng)) is not None:
                altered.setdefault(other.text, other)
        wanted, looked_at = wanted + max(16, count - len(altered)), len(puzzles)
    return list(altered.values())


def _in_split(
    alter: Callable[[Puzzle, random.Random], Puzzle | None], puzzle: Puzzle, split: str, rng: random.Random
) -> Puzzle | None:
    for _ in range(_TRIES):
        other = alter(puzzle, rng)
        if other is None or generator.split_of(other.names, other.statements) == split:
            return other
    return None


def another_statement(puzzle: Puzzle, rng: random.Random) -> Puzzle | None:
    """One person says something else, and the one solution is another; None if nothing like that is found."""
    people = len(puzzle.names)
    for _ in range(_DRAWS):
        speaker = rng.randrange(people)
        altered = _altered(puzzle, speaker, sample_statement(speaker, people, rng))
        if altered is not None:
            return altered
    return None


def another_leaf(puzzle: Puzzle, rng: random.Random) -> Puzzle | None:
    """One leaf of one statement is another, and so is the solution; None if no leaf allows that."""
    candidates = [
        (speaker, changed)
        for speaker, statement in enumerate(puzzle.statements)
        for changed in _with_another_leaf(statement, speaker, len(puzzle.names))
    ]
    rng.shuffle(candidates)
    for speaker, changed in candidates:
        altered = _altered(puzzle, speaker, changed)
        if altered is not None:
            return altered
    return None


def other_names(puzzle: Puzzle, rng: random.Random, name_pool: str = "uncommon") -> Puzzle:
    """The same statements by other people: names of the pool which the puzzle does not have."""
    free = [name for name in name_pools.pool(name_pool) if name not in puzzle.names]
    return replace(puzzle, names=tuple(rng.sample(free, len(puzzle.names))))


def other_roles(puzzle: Puzzle, rng: random.Random) -> Puzzle:
    """The same puzzle on an island of saints and sinners, or other words of `islanders.OTHERS`."""
    return replace(puzzle, islanders=rng.choice([i for i in islanders.OTHERS if i != puzzle.islanders]))


def flipped_roles(puzzle: Puzzle) -> Puzzle:
    """The same puzzle on an island where knaves tell the truth and knights lie."""
    return replace(puzzle, islanders=puzzle.islanders.flipped)


def reordered(puzzle: Puzzle, rng: random.Random) -> Puzzle:
    """The same puzzle with its statements told in another order; who is introduced first stays."""
    introduced = tuple(range(len(puzzle.names)))
    order = puzzle.told_order
    while order == puzzle.told_order:
        order = tuple(rng.sample(introduced, len(introduced)))
    return replace(puzzle, order=None if order == introduced else order)


def _altered(puzzle: Puzzle, speaker: int, statement: Statement) -> Puzzle | None:
    """The puzzle with this statement, if it has exactly one solution and that one is new."""
    statements = (*puzzle.statements[:speaker], statement, *puzzle.statements[speaker + 1 :])
    solutions = solve(statements)
    if len(solutions) != 1 or solutions[0] == puzzle.solution:
        return None
    return replace(puzzle, statements=statements, solution=solutions[0])


def _with_another_leaf(statement: Statement, speaker: int, people: int) -> Iterator[Statement]:
    """Every statement of the grammar that differs from this one in exactly one leaf."""
    kind = statement[0]
    if kind in LEAVES:
        for leaf in ((kind, person) for kind in LEAVES for person in range(people)):
            # As in `sample_leaf`, nobody says that he lies.
            if leaf not in (statement, ("lying", speaker)):
                yield leaf
        return
    for position in range(1, len(statement)):
        for part in _with_another_leaf(statement[position], speaker, people):
            changed = (*statement[:position], part, *statement[position + 1 :])
            # Both sides of an operator must differ.
            if len(set(changed[1:])) == len(changed[1:]):
                yield changed


KINDS: dict[str, Callable[[Puzzle, random.Random], Puzzle | None]] = {
    "perturbed_statement": another_statement,
    "perturbed_leaf": another_leaf,
    "uncommon_name": other_names,
    "random_pair": other_roles,
    "flip_role": lambda puzzle, rng: flipped_roles(puzzle),
    "reorder_statement": reordered,
}
"""By the names of the published sets (K-and-K/perturbed-knights-and-knaves)."""
