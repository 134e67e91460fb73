"""Reads published puzzles: K-and-K/knights-and-knaves with its perturbed sets, and those of Logic-RL.

The text of a puzzle says all there is to know, and `reading` reads it to the letter. What a row says beside
it must agree with it.

    the text is in        what must agree
    quiz                  names, statements, solution, solution_text_format
    prompt, a chat        reward_model.ground_truth, with statements and solution_text_format

Rows of Logic-RL's Parquet files have both. Columns that are not there need not agree; a row that cannot be
read, or contradicts itself, is none. Beside a prompt a text in ``solution`` is the worked solution, as
`rlad generate` writes it, for stages that train on it; the verifier has to accept it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlad_core.tasks.columns import unwritten
from rlad_core.tasks.knights_knaves import reading
from rlad_core.tasks.knights_knaves.prompt import messages
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.statements import check_statement
from rlad_core.tasks.knights_knaves.verifier import verify
from rlad_core.tasks.rows import AskedRow

_ASKED = ("quiz", "prompt")


class PuzzleReader:
    """Reads rows of either layout."""

    def choose(self, names: Sequence[str]) -> Sequence[str]:
        """See `RowReader.choose`."""
        if not set(names) & set(_ASKED):
            raise ValueError(f"there is no column {' or '.join(_ASKED)}; there is {', '.join(names)}")
        return [name for name in names if name in (*_ASKED, "reward_model", *_AGREEING)]

    def read(self, values: dict[str, Any]) -> AskedRow:
        """See `RowReader.read`."""
        puzzle = from_row(values)
        return AskedRow(messages(puzzle), puzzle.to_gold(_worked(values, puzzle)), puzzle.solution_text)


def from_row(fields: Mapping[str, Any]) -> Puzzle:
    """The puzzle of one row.

    Raises:
        ValueError: the row is not such a puzzle, or contradicts itself.
    """
    quiz, said = fields.get("quiz"), fields
    if quiz is None:
        prompt, reward_model = (unwritten(fields.get(name)) for name in ("prompt", "reward_model"))
        quiz, said = _asked(prompt), _ground_truth(reward_model)
    if quiz is None:
        raise ValueError(f"no puzzle in column quiz, nor in prompt; there is {', '.join(fields)}")
    if not isinstance(quiz, str):
        raise ValueError(f"the puzzle is {quiz!r:.80}, no text")
    puzzle = reading.read(quiz)
    for column, (read_as, has) in _AGREEING.items():
        if column not in said:
            continue
        if said[column] is None:
            raise ValueError(f"nothing in {column}")
        try:
            told = read_as(said[column])
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            raise ValueError(f"{column} {said[column]!r:.80} cannot be read: {error}") from error
        if told != has(puzzle):
            raise ValueError(
                f"{column} {said[column]!r:.200} contradicts the text, which says {has(puzzle)!r}"
            )
    return puzzle


def _worked(fields: Mapping[str, Any], puzzle: Puzzle) -> str | None:
    """The worked solution of a row, if it has one; beside a quiz the column has the roles."""
    told = unwritten(fields.get("solution"))
    if fields.get("quiz") is not None or not isinstance(told, str):
        return None
    if told.strip() in ("", puzzle.solution_text):
        return None
    if not (verdict := verify(told, puzzle)).correct:
        raise ValueError(f"the worked solution {told!r:.80} is not accepted: {verdict.reason}")
    return told


def _several(written: Any) -> tuple[Any, ...]:
    return tuple(unwritten(written))


def _statements(written: Any) -> tuple[Any, ...]:
    tree = ast.literal_eval(written) if isinstance(written, str) else written
    if not isinstance(tree, list | tuple):
        raise ValueError("they are no tuple")
    return tuple(check_statement(statement, len(tree)) for statement in tree)


_AGREEING: dict[str, tuple[Callable[[Any], Any], Callable[[Puzzle], Any]]] = {
    "names": (_several, lambda puzzle: puzzle.names),
    "statements": (_statements, lambda puzzle: puzzle.statements),
    "solution": (_several, lambda puzzle: puzzle.solution),
    "solution_text_format": (
        lambda text: str(text).split("\n"),
        lambda puzzle: puzzle.solution_text.split("\n"),
    ),
}


def _asked(prompt: Any) -> Any:
    """What the user says last in a chat; a text is as it is."""
    if not isinstance(prompt, list) or not prompt:
        return prompt
    said = [message.get("content") for message in prompt if isinstance(message, dict)]
    return said[-1] if said else None


def _ground_truth(reward_model: Any) -> Mapping[str, Any]:
    """Of a row for verl; a text is the solution's."""
    truth = reward_model.get("ground_truth") if isinstance(reward_model, dict) else None
    if isinstance(truth, str):
        try:
            told = json.loads(truth)
        except ValueError:
            told = None
        return told if isinstance(told, dict) else {"solution_text_format": truth}
    return truth if isinstance(truth, dict) else {}
