"""Reads a puzzle's text back: names, statements and the one assignment that fits.

The text is the published one (see `puzzle`), whatever the islanders are called and in whichever order their
statements are told. What was read must say exactly what was written, so nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlad_core.tasks.knights_knaves.islanders import KNIGHTS, Islanders
from rlad_core.tasks.knights_knaves.puzzle import TEMPLATES, Puzzle
from rlad_core.tasks.knights_knaves.statements import Statement, solve

MOST_PEOPLE = 12
"""Of a puzzle that others made. Solving one takes 2 to the number of people."""
_MOST_COUNTED = 64
"""Names that are read to say how many are too many; a prompt may hold millions."""

_BEGINNING = "A very special island"
_NAME = r'[^\s,."]{1,60}'
_ROLE = "[a-z]{1,40}"
_INTRODUCTION = re.compile(
    rf"{_BEGINNING} is inhabited only by ({_ROLE})s and ({_ROLE})s\. [A-Z]{_ROLE} always tell the truth, and "
    rf"{_ROLE} always lie\. You meet \d+ inhabitants: ((?:{_NAME}, ){{1,{_MOST_COUNTED}}})and ({_NAME})\."
)
_LEAF = rf"{_NAME} is (?:not )?an? {_ROLE}"
_JOINT = re.compile(r" (and|or|if and only if|then) ")
_OPERATORS = {"and": "and", "or": "or", "if and only if": "<=>", "then": "->"}
_SAYS = rf"(?P<says>(?:If )?{_LEAF}(?: (?:{'|'.join(_OPERATORS)}) {_LEAF})?)"
_SENTENCES = [
    re.compile(" " + re.escape(t).replace(r"\{name\}", f"(?P<name>{_NAME})").replace(r"\{says\}", _SAYS))
    for t in TEMPLATES
]


def read(text: str) -> Puzzle:
    """The puzzle that stands in a text, once; a chat template or an instruction may stand around it.

    Raises:
        ValueError: there is none, or not in the published words; or its statements leave no assignment, or
            several.
    """
    start = text.find(_BEGINNING)
    introduction = _INTRODUCTION.match(text, start) if start >= 0 else None
    islanders = KNIGHTS if introduction is None else Islanders(introduction[1], introduction[2])
    stop = text.rfind(islanders.question)
    if introduction is None or stop < introduction.end():
        raise ValueError(
            f"no puzzle in the prompt: one goes from '{_BEGINNING} ...' to '{islanders.question}', with "
            f"{MOST_PEOPLE} people at most"
        )
    names = (*introduction[3].removesuffix(", ").split(", "), introduction[4])
    if len(names) > MOST_PEOPLE or len(set(names)) < len(names):
        raise ValueError(
            f"{len(names)} people; a puzzle has at most {MOST_PEOPLE}, with a name of their own each"
        )
    told = _statements(text[introduction.end() : stop], names, islanders)
    statements = tuple(told[person][0] for person in range(len(names)))
    if len(solutions := solve(statements)) != 1:
        raise ValueError(f"the statements of the puzzle leave {len(solutions)} assignments, not one")
    order = tuple(told)
    puzzle = Puzzle(
        names=names,
        statements=statements,
        solution=solutions[0],
        wording=tuple(told[person][1] for person in range(len(names))),
        islanders=islanders,
        order=None if order == tuple(range(len(names))) else order,
    )
    if puzzle.text != text[start : stop + len(islanders.question)]:
        raise ValueError(f"the puzzle is not in the published words, which are: {puzzle.text!r}")
    return puzzle


def _statements(
    sentences: str, names: Sequence[str], islanders: Islanders
) -> dict[int, tuple[Statement, int]]:
    """Person -> statement and template, in the order in which they are told."""
    told: dict[int, tuple[Statement, int]] = {}
    position = 0
    while len(told) < len(names):
        matches = ((sentence.match(sentences, position), index) for index, sentence in enumerate(_SENTENCES))
        match, wording = next((found for found in matches if found[0]), (None, 0))
        if match is None:
            raise ValueError(
                f"no statement in the published words at {sentences[position : position + 80]!r}"
            )
        if (speaker := _person(match["name"], names)) in told:
            raise ValueError(f"{match['name']} makes two statements; everybody makes one")
        told[speaker] = _statement(match["says"], names, islanders), wording
        position = match.end()
    return told


def _statement(says: str, names: Sequence[str], islanders: Islanders) -> Statement:
    left, *rest = _JOINT.split(says.removeprefix("If "))
    if not rest:
        return _leaf(left, names, islanders)
    operator, right = rest
    return (_OPERATORS[operator], *(_leaf(part, names, islanders) for part in (left, right)))


def _leaf(says: str, names: Sequence[str], islanders: Islanders) -> Statement:
    name, _, claim = says.partition(" is ")
    role = claim.rpartition(" ")[2]
    if role not in (islanders.truthful, islanders.lying):
        raise ValueError(f"{role} is neither of the words for islanders that the puzzle introduces")
    leaf = ("telling-truth" if role == islanders.truthful else "lying", _person(name, names))
    return ("not", leaf) if claim.startswith("not ") else leaf


def _person(name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise ValueError(f"{name} is none of the people that the puzzle introduces: {', '.join(names)}")
    return names.index(name)
