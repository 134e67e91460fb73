"""One puzzle: who says what, the only assignment that fits, and the published English text of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from rlad_core.tasks.knights_knaves.islanders import KNIGHTS, Islanders, a
from rlad_core.tasks.knights_knaves.statements import LEAVES, Statement, check_statement, evaluate

_T = TypeVar("_T")

# {name} is the speaker, {says} the statement. Where the comma or the full stop stands relative to the closing
# quotation mark differs from template to template in the published data, and so it does here.
TEMPLATES: tuple[str, ...] = (
    '{name} said, "{says}."',
    "{name} said that {says}.",
    "{name} told you that {says}.",
    "{name} expressed that {says}.",
    '{name} stated, "{says}".',
    '{name} commented, "{says}".',
    '{name} noted, "{says}".',
    '{name} remarked, "{says}".',
    '{name} asserted: "{says}".',
    '{name} was heard saying, "{says}".',
    'According to {name}, "{says}".',
    'As {name} put it, "{says}".',
    'In a statement by {name}: "{says}".',
    'In {name}\'s words: "{says}".',
    '"{says}," {name} claimed.',
    '"{says}," {name} declared.',
    '"{says}," {name} mentioned.',
    '"{says}" - {name}.',
)

_WORKED = "worked"
"""Key of a gold, beside the puzzle's own."""
_JOINED_BY = {"and": " and ", "or": " or ", "<=>": " if and only if "}


@dataclass(frozen=True)
class Puzzle:
    """A puzzle whose statements leave exactly one assignment.

    names: the people in the order in which they are introduced, all different.
    statements: what each of them says.
    solution: for each of them, whether he tells the truth.
    wording: for each of them, the index in `TEMPLATES` of the sentence that reports him.
    islanders: what those who tell the truth and those who lie are called. On another island the statements
        and the solution stay what they are, and other words stand in the text and in the answer.
    order: the perturbed order in which the text reports the people; None: as they are introduced.

    Raises:
        ValueError: these do not belong together, or the solution does not fit the statements. (Whether
            another one fits too is for `solve` to say.)
    """

    names: tuple[str, ...]
    statements: tuple[Statement, ...]
    solution: tuple[bool, ...]
    wording: tuple[int, ...]
    islanders: Islanders = KNIGHTS
    order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        # An answer is read without regard to case and line breaks, so names must differ without them too.
        different = {name.lower() for name in self.names if name and name == " ".join(name.split())}
        counts = {len(self.names), len(different), len(self.statements), len(self.solution)}
        if counts != {len(self.wording)} or len(self.names) < 2:
            raise ValueError(
                f"a puzzle has two people or more, with one distinct name, statement, role and wording each; "
                f"got names {self.names}, {len(self.statements)} statements, {len(self.solution)} roles and "
                f"{len(self.wording)} wordings"
            )
        if sorted(self.told_order) != list(range(len(self.names))):
            raise ValueError(f"order {self.order} does not name each person 0..{len(self.names) - 1} once")
        unknown = [index for index in self.wording if not 0 <= index < len(TEMPLATES)]
        if unknown:
            raise ValueError(f"wording {unknown[0]} is unknown; templates are 0..{len(TEMPLATES) - 1}")
        for person, statement in enumerate(self.statements):
            if evaluate(statement, self.solution) != self.solution[person]:
                raise ValueError(f"the solution {self.solution} does not fit statement {person}: {statement}")

    @property
    def told_order(self) -> tuple[int, ...]:
        """The people in the order in which the text reports what they say."""
        return tuple(range(len(self.names))) if self.order is None else self.order

    @cached_property
    def text(self) -> str:
        """The puzzle as the model reads it, in the published words."""
        return " ".join(
            (
                introduction(self.names, self.islanders),
                *(self.sentence(person) for person in self.told_order),
                self.islanders.question,
            )
        )

    def sentence(self, person: int) -> str:
        """The sentence of the text that reports what this person says."""
        says = statement_text(self.statements[person], self.names, self.islanders)
        return TEMPLATES[self.wording[person]].format(name=self.names[person], says=says)

    @property
    def roles(self) -> tuple[str, ...]:
        """Each person's role, "knight" or "knave" for instance."""
        return tuple(self.islanders.role(truthful) for truthful in self.solution)

    @property
    def solution_text(self) -> str:
        """The lines of a right answer: ``(1) Zoey is a knight``, one person a line, in order."""
        return answer_lines(self.names, self.roles)

    @cached_property
    def content_id(self) -> str:
        """32 hex digits that name the content: names, statements, islanders; not wording or order."""
        content = json.dumps([self.names, self.statements, self._words])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    @property
    def _words(self) -> tuple[str, str]:
        return self.islanders.truthful, self.islanders.lying

    def to_gold(self, worked: str | None = None) -> str:
        """The puzzle as a JSON string, from which `from_gold` makes an equal one.

        Args:
            worked: a solution of the data's own, see `worked_in`.
        """
        return json.dumps(
            {
                "names": self.names,
                "solution": self.solution,
                "statements": self.statements,
                "wording": self.wording,
                "islanders": self._words,
                "order": self.order,
                **({} if worked is None else {_WORKED: worked}),
            }
        )

    @classmethod
    def from_gold(cls, gold: str) -> Puzzle:
        """Read what `to_gold` wrote.

        Raises:
            ValueError: it is not that, or not a puzzle.
        """
        fields = json.loads(gold)
        if not isinstance(fields, dict) or fields.keys() - {_WORKED} != cls.__dataclass_fields__.keys():
            raise ValueError(f"not the gold of a puzzle: {gold[:200]!r}; write it with Puzzle.to_gold")
        names, solution = _list(fields, "names", str), _list(fields, "solution", bool)
        return cls(
            names=names,
            statements=tuple(check_statement(part, len(names)) for part in _list(fields, "statements", list)),
            solution=solution,
            wording=_list(fields, "wording", int),
            islanders=_islanders(_list(fields, "islanders", str)),
            order=None if fields["order"] is None else _list(fields, "order", int),
        )


def worked_in(gold: str) -> str | None:
    """The worked solution that the puzzle's data have, such as a teacher's response; None: they have none.

    Raises:
        ValueError: it is no gold.
    """
    fields = json.loads(gold)
    return _typed(fields, _WORKED, str) if isinstance(fields, dict) and _WORKED in fields else None


def _islanders(words: tuple[str, ...]) -> Islanders:
    if len(words) != 2:
        raise ValueError(f"gold's 'islanders' is {words!r}; it should be two words")
    return Islanders(*words)


def _list(fields: dict[str, Any], key: str, kind: type[_T]) -> tuple[_T, ...]:
    values = _typed(fields, key, list)
    if any(type(value) is not kind for value in values):
        raise ValueError(f"gold's {key!r} is {values!r}; it should be a list of {kind.__name__}")
    return tuple(values)


def _typed(fields: dict[str, Any], key: str, kind: type[_T]) -> _T:
    value = fields[key]
    # A bool is an int to isinstance, and a 1 for true would be somebody else's gold.
    if type(value) is not kind:
        raise ValueError(f"gold's {key!r} is {value!r}; it should be a {kind.__name__}")
    return value


def introduction(names: Sequence[str], islanders: Islanders = KNIGHTS) -> str:
    """The sentences before the statements: the island and its people."""
    met = f"You meet {len(names)} inhabitants: {', '.join(names[:-1])}, and {names[-1]}."
    return f"{islanders.description} {met}"


def answer_lines(names: Sequence[str], roles: Sequence[str]) -> str:
    """``(1) Zoey is a knight`` and so on, one person a line, without a newline at the end."""
    return "\n".join(
        f"({number}) {name} is {a(word)}"
        for number, (name, word) in enumerate(zip(names, roles, strict=True), start=1)
    )


def statement_text(statement: Statement, names: Sequence[str], islanders: Islanders = KNIGHTS) -> str:
    """The statement in the published words, without quotation marks or a full stop.

    "If" keeps its capital inside a sentence, as in the published data.

    Raises:
        ValueError: an operator stands over another operator. The published text has no words for that, and
            without brackets it would be ambiguous.
    """
    kind, *parts = statement
    if kind in LEAVES:
        return f"{names[parts[0]]} is {a(islanders.role(kind == 'telling-truth'))}"
    nested = [part for part in parts if part[0] not in LEAVES]
    if nested:
        raise ValueError(f"{statement!r} has {nested[0]!r} under an operator; only leaves can stand there")
    if kind == "not":
        leaf = parts[0]
        return f"{names[leaf[1]]} is not {a(islanders.role(leaf[0] == 'telling-truth'))}"
    left, right = (statement_text(part, names, islanders) for part in parts)
    return join_statements(kind, left, right)


def join_statements(operator: str, left: str, right: str) -> str:
    """Two texts joined by a binary operator in the published words."""
    return f"If {left} then {right}" if operator == "->" else left + _JOINED_BY[operator] + right
