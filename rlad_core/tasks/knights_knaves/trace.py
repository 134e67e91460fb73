r"""A worked solution in words, for supervised training.

The assignments are tried one after another, truth-tellers first. Under each, the people's statements are
checked in order until one contradicts its speaker's role; the first assignment under which all fit is the
answer. The form is made for small models, which learn to look up what followed the word they have just
written, and little else (docs/decisions/0006): a line begins with its speaker, so that a statement follows
the same word each time; and a role is told right after its person's name, in words that mean nothing else.

    Suppose Mia, a knight; Ed, a knight.
    Mia: Ed is a knave (as Ed, a knight: no), false; Mia, a knight: contradiction.
    Suppose Mia, a knight; Ed, a knave.
    Mia: Ed is a knave (as Ed, a knave: yes), true; Mia, a knight: fits.
    Ed: If Mia is a knave (as Mia, a knight: no) then Ed is a knight (as Ed, a knave: no), true; Ed, a \
    knave: contradiction.
    ...
    Everything fits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from rlad_core.tasks.knights_knaves.prompt import reply
from rlad_core.tasks.knights_knaves.puzzle import Puzzle, join_statements, role, statement_text
from rlad_core.tasks.knights_knaves.statements import BINARY_OPERATORS, Statement, evaluate


def demonstration(puzzle: Puzzle) -> str:
    """The whole reply: reasoning and answer in the asked-for form."""
    return reply(reasoning(puzzle), puzzle.solution_text)


def reasoning(puzzle: Puzzle) -> str:
    """The worked solution, one sentence a line."""
    return "\n".join(_lines(puzzle))


def _lines(puzzle: Puzzle) -> Iterator[str]:
    for assignment in itertools.product((True, False), repeat=len(puzzle.names)):
        roles = [role(truthful, puzzle.roles_flipped) for truthful in assignment]
        people = (f"{name}, a {word}" for name, word in zip(puzzle.names, roles, strict=True))
        yield f"Suppose {'; '.join(people)}."
        for speaker, statement in enumerate(puzzle.statements):
            holds = evaluate(statement, assignment)
            fits = holds == assignment[speaker]
            claim = _checked(statement, assignment, puzzle)
            name, truth = puzzle.names[speaker], "true" if holds else "false"
            verdict = "fits" if fits else "contradiction"
            yield f"{name}: {claim}, {truth}; {name}, a {roles[speaker]}: {verdict}."
            if not fits:
                break
        else:
            yield "Everything fits."
            return


def _checked(statement: Statement, assignment: Sequence[bool], puzzle: Puzzle) -> str:
    """The statement in words, each of its claims followed by its person's role and whether it holds."""
    kind, *parts = statement
    if kind in BINARY_OPERATORS:
        left, right = (_checked(part, assignment, puzzle) for part in parts)
        return join_statements(kind, left, right)
    leaf = parts[0] if kind == "not" else statement
    supposed = f"{puzzle.names[leaf[1]]}, a {role(assignment[leaf[1]], puzzle.roles_flipped)}"
    holds = "yes" if evaluate(statement, assignment) else "no"
    return f"{statement_text(statement, puzzle.names, puzzle.roles_flipped)} (as {supposed}: {holds})"
