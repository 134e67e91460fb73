"""Reads puzzles in the published row format: Parquet files of Logic-RL and of K-and-K/knights-and-knaves.

Only four columns are used (`quiz`, `names`, `statements`, `solution`). The text of a row is not trusted but
understood: its sentences are matched with the templates, so that the puzzle's own `text` is the row's `quiz`
to the letter. A row that cannot be reproduced is refused.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rlad_core.tasks.knights_knaves.puzzle import TEMPLATES, Puzzle, introduction, statement_text
from rlad_core.tasks.knights_knaves.statements import Statement, check_statement

COLUMNS = ("quiz", "names", "statements", "solution")


def read(path: Path) -> list[Puzzle]:
    """The puzzles of a file, in its order.

    Raises:
        ValueError: a column is missing, or a row is not a puzzle with a text in the published words. The
            message names file and row.
    """
    missing = set(COLUMNS) - set(pq.read_schema(path).names)
    if missing:
        raise ValueError(f"{path} lacks the columns {sorted(missing)} of the published puzzles")
    puzzles = []
    for row, fields in enumerate(pq.read_table(path, columns=list(COLUMNS)).to_pylist()):
        try:
            puzzles.append(from_row(fields))
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{path}, row {row}: {error}") from error
    return puzzles


def from_row(fields: dict[str, Any]) -> Puzzle:
    """The puzzle of one row.

    Raises:
        ValueError, SyntaxError: the row is not such a puzzle.
    """
    empty = [column for column in COLUMNS if fields[column] is None]
    if empty:
        raise ValueError(f"nothing in {', '.join(empty)}")
    names = tuple(fields["names"])
    tree = ast.literal_eval(fields["statements"])
    if not isinstance(tree, tuple):
        raise ValueError(f"statements {fields['statements']!r} are no tuple")
    statements = tuple(check_statement(statement, len(names)) for statement in tree)
    puzzle = Puzzle(
        names=names,
        statements=statements,
        solution=tuple(fields["solution"]),
        wording=_wording(fields["quiz"], names, statements),
    )
    if puzzle.text != fields["quiz"]:
        raise ValueError(f"the text is not the published one of its statements: {fields['quiz']!r}")
    return puzzle


def _wording(quiz: str, names: tuple[str, ...], statements: tuple[Statement, ...]) -> tuple[int, ...]:
    """Which template reports each person, found from left to right."""
    head = introduction(names)
    if not quiz.startswith(head):
        raise ValueError(f"the text should begin with {head!r}, got {quiz[: len(head)]!r}")
    position = len(head)
    wording = []
    for name, statement in zip(names, statements, strict=True):
        says = statement_text(statement, names)
        sentences = (" " + template.format(name=name, says=says) for template in TEMPLATES)
        matching = [index for index, sentence in enumerate(sentences) if quiz.startswith(sentence, position)]
        if len(matching) != 1:
            raise ValueError(
                f"no known way to report {name}'s {says!r} at {quiz[position : position + 80]!r}"
            )
        wording.append(matching[0])
        position += 1 + len(TEMPLATES[matching[0]].format(name=name, says=says))
    return tuple(wording)
