"""What an islander can say: a tree, its truth, the puzzles it makes, and how to draw one.

A statement is a nested tuple, written as in the published data:

    ('telling-truth', i)   person i tells the truth        ('lying', i)   person i lies
    ('not', s)    ('and', a, b)    ('or', a, b)    ('->', a, b)    ('<=>', a, b)

People are numbered from 0 in the order in which the puzzle introduces them. An assignment is a tuple of
booleans, ``True`` for a person who tells the truth.

Source of the grammar: "On Memorization of Large Language Models in Logical Reasoning", arXiv 2410.23123.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any, TypeAlias

Statement: TypeAlias = tuple[Any, ...]
"""A nested tuple as described above. Use `check_statement` on one that comes from outside."""

LEAVES = ("telling-truth", "lying")
BINARY_OPERATORS = ("and", "or", "->", "<=>")
SYMMETRIC_OPERATORS = ("and", "or", "<=>")


def check_statement(statement: Any, people: int) -> Statement:
    """Return the statement as nested tuples (lists become tuples).

    Raises:
        ValueError: it is no statement of this grammar, or speaks of somebody who is not there.
    """
    if not isinstance(statement, list | tuple) or not statement or not isinstance(statement[0], str):
        raise ValueError(f"not a statement: {statement!r}; write e.g. ('not', ('lying', 0))")
    kind, *parts = statement
    if kind in LEAVES and len(parts) == 1:
        person = parts[0]
        if isinstance(person, bool) or not isinstance(person, int) or not 0 <= person < people:
            raise ValueError(f"{statement!r} speaks of person {person!r}; there are only 0..{people - 1}")
        return (kind, person)
    if (kind == "not" and len(parts) == 1) or (kind in BINARY_OPERATORS and len(parts) == 2):
        return (kind, *(check_statement(part, people) for part in parts))
    raise ValueError(
        f"{statement!r}: {kind!r} with {len(parts)} parts is unknown; use {', '.join(LEAVES)} with a person, "
        f"not with one statement, or {', '.join(BINARY_OPERATORS)} with two"
    )


def evaluate(statement: Statement, assignment: Sequence[bool]) -> bool:
    """Whether the statement is true when `assignment[i]` says whether person i tells the truth."""
    match statement:
        case ("telling-truth", person):
            return assignment[person]
        case ("lying", person):
            return not assignment[person]
        case ("not", part):
            return not evaluate(part, assignment)
        case ("and", left, right):
            return evaluate(left, assignment) and evaluate(right, assignment)
        case ("or", left, right):
            return evaluate(left, assignment) or evaluate(right, assignment)
        case ("->", left, right):
            return not evaluate(left, assignment) or evaluate(right, assignment)
        case ("<=>", left, right):
            return evaluate(left, assignment) == evaluate(right, assignment)
    raise ValueError(f"unknown statement {statement!r}")


def solve(statements: Sequence[Statement]) -> list[tuple[bool, ...]]:
    """All assignments in which exactly the truth-tellers' statements are true, in counting order.

    Every one of the 2^N assignments is tried, all at once: bit k of a truth table says whether something
    holds in assignment k, in which person i tells the truth if bit i of k is set.
    """
    people = len(statements)
    everywhere = (1 << (1 << people)) - 1
    truthful = [_truthful_table(person, people) for person in range(people)]
    consistent = everywhere
    for person, statement in enumerate(statements):
        # Person i's being truthful and statement i's being true must coincide.
        consistent &= ~(truthful[person] ^ _table(statement, truthful, everywhere))
    found = []
    while consistent:
        lowest = consistent & -consistent
        index = lowest.bit_length() - 1
        found.append(tuple(bool(index >> person & 1) for person in range(people)))
        consistent ^= lowest
    return found


@functools.cache
def _truthful_table(person: int, people: int) -> int:
    """The truth table of "person i tells the truth": runs of 2^i zeros and 2^i ones, repeated."""
    run = 1 << person
    block = ((1 << run) - 1) << run
    table = 0
    for start in range(0, 1 << people, 2 * run):
        table |= block << start
    return table


def _table(statement: Statement, truthful: Sequence[int], everywhere: int) -> int:
    kind = statement[0]
    if kind == "telling-truth":
        return truthful[statement[1]]
    if kind == "lying":
        return everywhere ^ truthful[statement[1]]
    left = _table(statement[1], truthful, everywhere)
    if kind == "not":
        return everywhere ^ left
    right = _table(statement[2], truthful, everywhere)
    if kind == "and":
        return left & right
    if kind == "or":
        return left | right
    if kind == "->":
        return (everywhere ^ left) | right
    if kind == "<=>":
        return everywhere ^ left ^ right
    raise ValueError(f"unknown statement {statement!r}")


def sample_leaf(speaker: int, people: int, rng: random.Random) -> Statement:
    """A leaf that `speaker` could say. Nobody says of himself that he lies: neither role could say it."""
    while True:
        kind, person = rng.choice(LEAVES), rng.randrange(people)
        if (kind, person) != ("lying", speaker):
            return (kind, person)


def sample_statement(speaker: int, people: int, rng: random.Random) -> Statement:
    """Draw a statement as the published generator does with depth 2 and width 2.

    A leaf, `not` and each of the four binary operators are equally likely; an operator stands over leaves,
    and the two under a binary operator differ.
    """
    kind = rng.choice(("leaf", "not", *BINARY_OPERATORS))
    left = sample_leaf(speaker, people, rng)
    if kind == "leaf":
        return left
    if kind == "not":
        return ("not", left)
    right = sample_leaf(speaker, people, rng)
    while right == left:
        right = sample_leaf(speaker, people, rng)
    return (kind, left, right)
