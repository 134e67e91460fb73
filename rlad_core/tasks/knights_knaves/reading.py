"""Reads a puzzle's text back: names, statements and the one assignment that fits.

The text is the published one (see `puzzle`), flipped roles and another order of the statements included. What
was read must say exactly what was written, so nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlad_core.tasks.knights_knaves.generator import MAX_PEOPLE
from rlad_core.tasks.knights_knaves.puzzle import QUESTION, TEMPLATES, Puzzle, role
from rlad_core.tasks.knights_knaves.statements import Statement, solve

_BEGINNING = "A very special island"
_NAME = r'[^\s,."]+'
_INTRODUCTION = re.compile(
    rf"{_BEGINNING} is inhabited only by knights and knaves\. (Knight|Knave)s always tell the truth, and "
    rf"kn(?:ight|ave)s always lie\. You meet \d+ inhabitants: ((?:{_NAME}, )+)and ({_NAME})\."
)
_LEAF = rf"{_NAME} is (?:a|not a) (?:knight|knave)"
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
    start, stop = text.find(_BEGINNING), text.rfind(QUESTION)
    introduction = _INTRODUCTION.match(text, start) if start >= 0 else None
    if introduction is None or stop < introduction.end():
        raise ValueError(f"no puzzle in the prompt: one goes from '{_BEGINNING} ...' to '{QUESTION}'")
    names = (*introduction[2].removesuffix(", ").split(", "), introduction[3])
    if len(names) > MAX_PEOPLE or len(set(names)) < len(names):
        raise ValueError(
            f"{len(names)} people; a puzzle has at most {MAX_PEOPLE}, with a name of their own each"
        )
    roles_flipped = introduction[1] == "Knave"
    told = _statements(text[introduction.end() : stop], names, roles_flipped)
    statements = tuple(told[person][0] for person in range(len(names)))
    if len(solutions := solve(statements)) != 1:
        raise ValueError(f"the statements of the puzzle leave {len(solutions)} assignments, not one")
    order = tuple(told)
    puzzle = Puzzle(
        names=names,
        statements=statements,
        solution=solutions[0],
        wording=tuple(told[person][1] for person in range(len(names))),
        roles_flipped=roles_flipped,
        order=None if order == tuple(range(len(names))) else order,
    )
    if puzzle.text != text[start : stop + len(QUESTION)]:
        raise ValueError(f"the puzzle is not in the published words, which are: {puzzle.text!r}")
    return puzzle


def _statements(
    sentences: str, names: Sequence[str], roles_flipped: bool
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
        told[speaker] = _statement(match["says"], names, roles_flipped), wording
        position = match.end()
    return told


def _statement(says: str, names: Sequence[str], roles_flipped: bool) -> Statement:
    left, *rest = _JOINT.split(says.removeprefix("If "))
    if not rest:
        return _leaf(left, names, roles_flipped)
    operator, right = rest
    return (_OPERATORS[operator], *(_leaf(part, names, roles_flipped) for part in (left, right)))


def _leaf(says: str, names: Sequence[str], roles_flipped: bool) -> Statement:
    name, _, claim = says.partition(" is ")
    kind = "telling-truth" if claim.endswith(role(True, roles_flipped)) else "lying"
    leaf = (kind, _person(name, names))
    return ("not", leaf) if claim.startswith("not ") else leaf


def _person(name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise ValueError(f"{name} is none of the people that the puzzle introduces: {', '.join(names)}")
    return names.index(name)
