r"""A worked solution in words, for supervised training: a truth table, written line by line.

The cases are all assignments of roles, truth-tellers first. Each claim of a statement is judged in every
case, then the statement, then whether that fits its speaker's role; the case that fits all is the answer.

    Cases: Mia knight knight knave knave; Ed knight knave knight knave.
    According to Mia Ed is a knave, for Ed no yes no yes; Mia fits: no yes yes no.
    According to Ed If Mia is a knave, for Mia no no yes yes then Ed is a knight, for Ed yes no yes no, so: \
    yes yes yes no; Ed fits: yes no yes yes.
    All fit: no no yes no, case 3.

The form is made for small models (docs/decisions/0006). Every word is either copied from the puzzle right
after the name it belongs to, or follows from words at fixed distances. Nothing depends on which of several
earlier suppositions is the latest, and all solutions for so many people are about as long. Names are repeated
close by, which looks idle and is where such a model learns to copy at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from rlad_core.tasks.knights_knaves.prompt import reply
from rlad_core.tasks.knights_knaves.puzzle import Puzzle, join_statements, statement_text
from rlad_core.tasks.knights_knaves.statements import BINARY_OPERATORS, Statement, evaluate


def demonstration(puzzle: Puzzle) -> str:
    """The whole reply: reasoning and answer in the asked-for form."""
    return reply(reasoning(puzzle), puzzle.solution_text)


def reasoning(puzzle: Puzzle) -> str:
    """The worked solution, one statement a line. Its length grows with 2 to the number of people."""
    return "\n".join(_lines(puzzle))


def _lines(puzzle: Puzzle) -> Iterator[str]:
    cases = list(itertools.product((True, False), repeat=len(puzzle.names)))
    rows = (
        " ".join([name, *(puzzle.islanders.role(case[person]) for case in cases)])
        for person, name in enumerate(puzzle.names)
    )
    yield f"Cases: {'; '.join(rows)}."
    left = [True] * len(cases)
    for speaker, statement in enumerate(puzzle.statements):
        fits = [evaluate(statement, case) == case[speaker] for case in cases]
        left = [so_far and now for so_far, now in zip(left, fits, strict=True)]
        claims = _judged(statement, puzzle, cases)
        name = puzzle.names[speaker]
        yield f"According to {name} {claims}; {name} fits: {_words(fits)}."
    yield f"All fit: {_words(left)}, case {left.index(True) + 1}."


def _judged(statement: Statement, puzzle: Puzzle, cases: Sequence[Sequence[bool]]) -> str:
    """The statement in words, each of its claims followed by its truth in every case; then its own."""
    truth = _words(evaluate(statement, case) for case in cases)
    kind, *parts = statement
    if kind in BINARY_OPERATORS:
        left, right = (_judged(part, puzzle, cases) for part in parts)
        return f"{join_statements(kind, left, right)}, so: {truth}"
    leaf = parts[0] if kind == "not" else statement
    claim = statement_text(statement, puzzle.names, puzzle.islanders)
    return f"{claim}, for {puzzle.names[leaf[1]]} {truth}"


def _words(truths: Iterable[bool]) -> str:
    return " ".join("yes" if truth else "no" for truth in truths)
