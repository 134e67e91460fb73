"""Puzzles with exactly one solution, in three splits that cannot overlap.

**Splits by content.** Which split a puzzle belongs to is decided by a hash of what it says (`split_of`), so
no seed, count or order of calls can put one puzzle into two splits. The hash does not see the wording of the
sentences, the order of the people, nor the order inside "and", "or" and "if and only if". For three people
and more it does not see the names either: a test puzzle is then not a training puzzle with other names, and a
reordered or renamed puzzle stays in its split. For two people there are only a few hundred distinct puzzles
without names, too few to hold some out and still measure anything, so names count there: the same two
statements may occur in training and test about different people.

**Seeds.** Puzzles are drawn with a random generator whose seed is made of the number of people, the split,
the name pool and `seed`, so no two of these share random numbers. The first k puzzles of a longer request are
those of a request for k. Two seeds of one split draw independently from one set of puzzles and may meet the
same one, though rarely; within one call all puzzles differ in content.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from rlad_core.tasks.knights_knaves import names as name_pools
from rlad_core.tasks.knights_knaves.puzzle import TEMPLATES, Puzzle
from rlad_core.tasks.knights_knaves.statements import (
    LEAVES,
    SYMMETRIC_OPERATORS,
    Statement,
    sample_statement,
    solve,
)

SPLITS = ("train", "validation", "test")
MIN_PEOPLE, MAX_PEOPLE = 2, 8

# Of 10 equal parts of the hash's range, the first goes to the test split and the second to validation.
_PARTS = 10
_HELD_OUT_PARTS = {0: "test", 1: "validation"}

# A split holds at least a tenth of all puzzles and about a third of all draws have one solution, so a new
# puzzle takes some 30 draws at worst; only a request for more puzzles than exist comes near this.
_DRAWS_PER_PUZZLE = 20_000


def generate(people: int, split: str, seed: int, count: int, name_pool: str = "common") -> list[Puzzle]:
    """`count` different puzzles of one split, always the same ones for the same arguments.

    Raises:
        ValueError: an argument is outside what there is, or the split does not hold that many puzzles.
    """
    if not MIN_PEOPLE <= people <= MAX_PEOPLE:
        raise ValueError(f"people = {people}; puzzles have {MIN_PEOPLE} to {MAX_PEOPLE} people")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; write one of {', '.join(SPLITS)}")
    if count < 0:
        raise ValueError(f"count = {count}; write 0 or more")
    pool = name_pools.pool(name_pool)
    rng = random.Random(f"knights_knaves {people} people, {split}, {name_pool} names, seed {seed}")
    found: dict[str, Puzzle] = {}
    draws_left = _DRAWS_PER_PUZZLE
    while len(found) < count:
        if not draws_left:
            raise ValueError(
                f"no new puzzle in {_DRAWS_PER_PUZZLE} draws after {len(found)} of {count}: the {split} "
                f"split for {people} people holds hardly more; ask for fewer"
            )
        draws_left -= 1
        puzzle = draw(people, pool, rng)
        if puzzle is None or split_of(puzzle.names, puzzle.statements) != split:
            continue
        if puzzle.content_id not in found:
            found[puzzle.content_id] = puzzle
            draws_left = _DRAWS_PER_PUZZLE
    return list(found.values())


def draw(people: int, pool: Sequence[str], rng: random.Random) -> Puzzle | None:
    """One draw of statements; a puzzle of any split if they have exactly one solution, else None."""
    statements = tuple(sample_statement(speaker, people, rng) for speaker in range(people))
    solutions = solve(statements)
    if len(solutions) != 1:
        return None
    return Puzzle(
        names=tuple(rng.sample(pool, people)),
        statements=statements,
        solution=solutions[0],
        wording=sample_wording(people, rng),
    )


def sample_wording(people: int, rng: random.Random) -> tuple[int, ...]:
    """For each person one of the published templates, all equally likely."""
    return tuple(rng.randrange(len(TEMPLATES)) for _ in range(people))


def split_of(names: Sequence[str], statements: Sequence[Statement]) -> str:
    """The split to which a puzzle with this content belongs."""
    part = int.from_bytes(split_key(names, statements), "big") % _PARTS
    return _HELD_OUT_PARTS.get(part, "train")


def split_key(names: Sequence[str], statements: Sequence[Statement]) -> bytes:
    """16 bytes that are equal for puzzles which say the same thing (see the top of the module).

    Each person's colour becomes a hash of what he says, with the colours of the people he speaks of in their
    place, as many times as there are people (colour refinement, Weisfeiler and Lehman 1968). The sorted
    colours do not depend on the order of the people. Two different puzzles may share a key; they then merely
    share a split.
    """
    people = len(statements)
    colours = [name.encode() for name in names] if people == MIN_PEOPLE else [b""] * people
    for _ in range(people):
        colours = [
            _digest(colours[speaker], _said(statement, speaker, colours))
            for speaker, statement in enumerate(statements)
        ]
    return _digest(*sorted(colours))


def _said(statement: Statement, speaker: int, colours: Sequence[bytes]) -> bytes:
    kind = statement[0]
    if kind in LEAVES:
        person = statement[1]
        # At first all colours are equal; "himself or another" is what tells people apart then.
        return _digest(kind.encode(), b"self" if person == speaker else b"other", colours[person])
    parts = [_said(part, speaker, colours) for part in statement[1:]]
    if kind in SYMMETRIC_OPERATORS:
        parts.sort()
    return _digest(kind.encode(), *parts)


def _digest(*parts: bytes) -> bytes:
    # Lengths are written down so that ("ab", "c") and ("a", "bc") differ.
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hashlib.blake2b(framed, digest_size=16).digest()
